"""DCGAN (Radford et al. 2016) as the OSGAN paper's configurations have it, at any power-of-two resolution from 16 up.

Convolutions of 4x4 with bias, weights N(0, 0.02), biases 0; G with BatchNorm, ReLU and tanh; D with LeakyReLU 0.2, raw
logits, and no norm on its first and last layer. Channels halve with every doubling of the image, down to `width`.
"""

from collections.abc import Callable

from torch import Tensor, nn

from osgan.errors import InputError


def _group_norm(channels: int) -> nn.Module:
    # 32 groups as in the paper at its width of 128; never fewer than 4 channels a group, else it becomes InstanceNorm
    return nn.GroupNorm(max(1, min(32, channels // 4)), channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": _group_norm,
    "none": lambda channels: nn.Identity(),
}


class DCGANGenerator(nn.Sequential):
    """Latents (N, latent_dim) -> images (N, channels, resolution, resolution) in [-1, 1]."""

    def __init__(self, resolution: int, width: int, channels: int, latent_dim: int) -> None:
        at_4 = width * resolution // 8
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, at_4, 4, 1, 0)]
        size, features = 4, at_4
        while size < resolution // 2:
            layers += [nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(features, features // 2, 4, 2, 1)]
            size, features = size * 2, features // 2
        layers += [nn.BatchNorm2d(features), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(features, channels, 4, 2, 1), nn.Tanh()]
        super().__init__(*layers)
        self.latent_dim = latent_dim
        self.apply(_initialise)

    def forward(self, z: Tensor) -> Tensor:
        """Generate one image a latent."""
        images: Tensor = super().forward(z[:, :, None, None])
        return images


class DCGANDiscriminator(nn.Sequential):
    """Images (N, channels, resolution, resolution) -> logits (N,)."""

    def __init__(self, resolution: int, width: int, channels: int, norm: str) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        size, features = resolution // 2, width
        while size > 4:
            layers += [nn.Conv2d(features, features * 2, 4, 2, 1), NORMS[norm](features * 2)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
            size, features = size // 2, features * 2
        super().__init__(*layers, nn.Conv2d(features, 1, 4, 1, 0))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Score each image."""
        logits: Tensor = super().forward(images)
        return logits.flatten()


def dcgan(
    *, resolution: int = 64, width: int = 128, channels: int = 3, latent_dim: int = 100, norm: str = "group"
) -> tuple[DCGANGenerator, DCGANDiscriminator]:
    """Build the pair; `norm` is D's: batch, group or none. Raises InputError for sizes that cannot be built."""
    if resolution < 16 or resolution & (resolution - 1):
        raise InputError(f"dcgan: resolution must be a power of two from 16 up, got {resolution!r}")
    for name, value in {"width": width, "channels": channels, "latent_dim": latent_dim}.items():
        if not (isinstance(value, int) and value > 0):
            raise InputError(f"dcgan: {name} must be a whole number above 0, got {value!r}")
    if norm not in list(NORMS):
        raise InputError(f"dcgan: norm must be one of {', '.join(NORMS)}, got {norm!r}")
    return (
        DCGANGenerator(resolution, width, channels, latent_dim),
        DCGANDiscriminator(resolution, width, channels, norm),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
