"""DCGAN (Radford et al. 2016) as the OSGAN paper's configurations have it, at any power-of-two resolution from 16 up.

Convolutions of 4x4 with bias, weights N(0, 0.02), biases 0; G with BatchNorm, ReLU and tanh; D with LeakyReLU 0.2, raw
logits, and no norm on its first and last layer. Channels halve with every doubling of the image, down to `width`.

The conditional pair: G reads an embedding of the label beside the latent (Mirza & Osindero 2014), D adds the inner
product of its last features with an embedding of the label to the logit (projection, Miyato & Koyama 2018).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from osgan.nets.sizes import check_choice, check_classes, check_counts, check_power_of_two


def _group_norm(channels: int) -> nn.Module:
    # 32 groups as in the paper at its width of 128; never fewer than 4 channels a group, else it becomes InstanceNorm
    most = max(1, min(32, channels // 4))
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)


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


class ConditionalDCGANGenerator(nn.Module):
    """Latents (N, latent_dim), labels (N,) -> images (N, channels, resolution, resolution) in [-1, 1]."""

    def __init__(self, resolution: int, width: int, channels: int, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(num_classes, latent_dim)  # N(0, 1), as the latents it stands beside
        self.layers = DCGANGenerator(resolution, width, channels, 2 * latent_dim)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Generate one image a latent, of the class that its label names."""
        images: Tensor = self.layers(torch.cat([z, self.embedding(labels)], dim=1))
        return images


class ConditionalDCGANDiscriminator(nn.Module):
    """Images (N, channels, resolution, resolution), labels (N,) -> logits (N,)."""

    def __init__(self, resolution: int, width: int, channels: int, norm: str, num_classes: int) -> None:
        super().__init__()
        *features, head = DCGANDiscriminator(resolution, width, channels, norm)
        self.features = nn.Sequential(*features)
        assert isinstance(head, nn.Conv2d)
        self.head = head
        self.embedding = nn.Embedding(num_classes, head.weight.numel())  # a head of its own for every class
        nn.init.normal_(self.embedding.weight, 0.0, 0.02)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Score each image as one of the class that its label names."""
        features = self.features(images)
        projection = (features.flatten(1) * self.embedding(labels)).sum(1)
        logits: Tensor = self.head(features).flatten() + projection
        return logits


def dcgan(
    *, resolution: int = 64, width: int = 128, channels: int = 3, latent_dim: int = 100, norm: str = "group"
) -> tuple[DCGANGenerator, DCGANDiscriminator]:
    """Build the pair; `norm` is D's: batch, group or none. Raises InputError for sizes that cannot be built."""
    _check("dcgan", resolution, width, channels, latent_dim, norm)
    return (
        DCGANGenerator(resolution, width, channels, latent_dim),
        DCGANDiscriminator(resolution, width, channels, norm),
    )


def cdcgan(
    *,
    resolution: int = 64,
    width: int = 128,
    channels: int = 3,
    latent_dim: int = 100,
    norm: str = "group",
    num_classes: int | None = None,
) -> tuple[ConditionalDCGANGenerator, ConditionalDCGANDiscriminator]:
    """Build the conditional pair for labels 0 .. num_classes - 1; raises InputError without classes."""
    _check("cdcgan", resolution, width, channels, latent_dim, norm)
    num_classes = check_classes("cdcgan", num_classes, without_labels="dcgan")
    return (
        ConditionalDCGANGenerator(resolution, width, channels, latent_dim, num_classes),
        ConditionalDCGANDiscriminator(resolution, width, channels, norm, num_classes),
    )


def _check(family: str, resolution: int, width: int, channels: int, latent_dim: int, norm: str) -> None:
    check_power_of_two(family, resolution, smallest=16)
    check_counts(family, width=width, channels=channels, latent_dim=latent_dim)
    check_choice(family, "norm", norm, NORMS)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
