"""The generator of data-free adversarial distillation (Fang et al. 2019), at any resolution divisible by 4.

Its last layer is a BatchNorm without weights: images come out standardised, as a classifier's preprocessing makes them,
and not in [-1, 1].
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from osgan import spec
from osgan.errors import InputError
from osgan.latent import Gaussian, Latent
from osgan.nets.sizes import bounded, check_counts, check_resolution, is_count


class DFADGenerator(nn.Module):
    """Latents (N, latent_dim) -> images (N, channels, resolution, resolution) of mean 0 and variance 1 a channel."""

    def __init__(self, resolution: int, width: int, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        start = resolution // 4
        self.project = nn.Sequential(
            nn.Linear(latent_dim, 2 * width * start**2), nn.Unflatten(1, (2 * width, start, start))
        )
        self.images = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Generate one image a latent."""
        images: Tensor = self.images(self.project(z))
        return images


def dfad(*, resolution: int = 32, width: int = 64, channels: int = 1, latent_dim: int = 100) -> DFADGenerator:
    """Build the generator; raises InputError for sizes that cannot be built."""
    check_counts("dfad", resolution=resolution, width=width, channels=channels, latent_dim=latent_dim)
    check_resolution("dfad", resolution)
    if resolution % 4:
        raise InputError(f"dfad: resolution must be divisible by 4, got {resolution}")
    return DFADGenerator(resolution, width, channels, latent_dim)


GENERATORS: dict[str, Callable[..., Any]] = {"dfad": dfad}


def build_generator(generator: str, *, channels: int, resolution: int = 32) -> tuple[nn.Module, Latent]:
    """Build a generator `dfad+width=16` or `package.module:build`, and the latents it is trained with.

    A user's builder gets those of `channels` and `resolution` that its signature takes and returns an nn.Module, whose
    attribute `latent_dim` gives the size of standard normal latents. Raises InputError for what cannot be built.
    """
    parsed = spec.parse(generator)
    builder = spec.resolve("generator", parsed.name, GENERATORS)
    with bounded(f"generator {generator!r}"):
        built = spec.call("generator", parsed, builder, channels=channels, resolution=resolution)
    if not isinstance(built, nn.Module):
        raise InputError(f"generator {generator!r} must return an nn.Module, got {type(built).__name__}")
    latent_dim = getattr(built, "latent_dim", None)
    if not is_count(latent_dim):
        raise InputError(f"generator {generator!r}: which latents? Give it an integer attribute latent_dim")
    return built, Gaussian(latent_dim)
