"""A pair of multilayer perceptrons (Goodfellow et al. 2014, section 5) for vectors and small images: to learn, to test.

Fully connected layers with LeakyReLU 0.2 and PyTorch's own initial weights; no norm, so D is sample-wise.
"""

import math

from torch import Tensor, nn

from osgan.errors import InputError
from osgan.nets.sizes import check_counts


class MLPGenerator(nn.Module):
    """Latents (N, latent_dim) -> samples (N, *shape), in [-1, 1] if `bounded`."""

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, latent_dim: int, bounded: bool) -> None:
        super().__init__()
        self.shape = shape
        self.latent_dim = latent_dim
        self.layers = _layers(latent_dim, width, depth, math.prod(shape))
        self.bound = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Generate one sample a latent."""
        samples: Tensor = self.bound(self.layers(z))
        return samples.reshape(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """Samples (N, *shape) -> logits (N,)."""

    def __init__(self, shape: tuple[int, ...], width: int, depth: int) -> None:
        super().__init__()
        self.layers = _layers(math.prod(shape), width, depth, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """Score each sample."""
        logits: Tensor = self.layers(samples.flatten(1))
        return logits.flatten()


def mlp(
    *,
    resolution: int = 32,
    width: int = 256,
    channels: int = 3,
    latent_dim: int = 64,
    depth: int = 3,
    shape: tuple[int, ...] | None = None,
    bounded: bool = True,
) -> tuple[MLPGenerator, MLPDiscriminator]:
    """Build the pair with `depth` hidden layers, for images (channels, resolution, resolution) or samples of a `shape`.

    Vectors have a shape of one size: (2,). G ends in tanh if `bounded`; data outside of [-1, 1] need bounded=False.
    Raises InputError for sizes that cannot be built.
    """
    check_counts("mlp", resolution=resolution, width=width, channels=channels, latent_dim=latent_dim, depth=depth)
    if shape is None:
        shape = (channels, resolution, resolution)
    if not (isinstance(shape, tuple) and shape):
        raise InputError(f"mlp: shape must be a tuple of sizes as in (2,) or (3, 8, 8), got {shape!r}")
    for size in shape:
        check_counts("mlp", **{"every size of shape": size})
    return MLPGenerator(shape, width, depth, latent_dim, bounded), MLPDiscriminator(shape, width, depth)


def _layers(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, width), nn.LeakyReLU(0.2, inplace=True)]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
