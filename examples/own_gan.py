"""Networks and data of your own, named by import path: in a suite, on the command line, in the API.

python -m bench run examples/own_gan.yaml
osgan verify --architecture examples.own_gan:build --dataset examples.own_gan:Rings
"""

import torch
from torch import Tensor, nn


def build(resolution: int, channels: int, width: int = 16) -> tuple[nn.Module, nn.Module]:
    """Return (G, D); G's `latent_dim` says which latents it is given."""
    pixels = channels * resolution**2
    generator = nn.Sequential(
        nn.Linear(8, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, pixels),
        nn.Tanh(),
        nn.Unflatten(1, (channels, resolution, resolution)),
    )
    generator.latent_dim = 8
    discriminator = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(width * (resolution // 2) ** 2, 1),
    )
    return generator, discriminator


def build_with_batch_norm(resolution: int, channels: int, width: int = 16) -> tuple[nn.Module, nn.Module]:
    """The same with a D that mixes samples: one-stage refuses it for an asymmetric loss, and says why."""
    generator, discriminator = build(resolution, channels, width)
    discriminator.insert(1, nn.BatchNorm2d(width))
    return generator, discriminator


class Rings:
    """A map-style data set: uint8 images (1, 32, 32) of a ring, its radius the label."""

    def __init__(self, images: int = 256) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
        shift = torch.Generator().manual_seed(index)
        centre = 16 + torch.randint(-4, 5, (2,), generator=shift)
        radius = index % 3
        distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2).sqrt()
        return (255 * ((distance - 4 - 3 * radius).abs() < 1.5)).to(torch.uint8)[None], radius
