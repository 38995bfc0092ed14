"""SAGAN (Zhang et al. 2019): self-attention in both networks of SNGAN, spectral norm in G as in D.

Attention stands where the map is a quarter of the image, 32x32 at the paper's 128 pixels. Its gain starts at 0, so that
training starts from SNGAN. Matrix products and softmax are spelled out: the fused attention kernels cannot be
differentiated twice, which R1 asks of D.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from osgan.nets.sizes import check_classes
from osgan.nets.sngan import DISCRIMINATOR, GENERATOR, SNGANDiscriminator, SNGANGenerator, check, convolution


class SelfAttention(nn.Module):
    """Every place of a map attends to every 2x2 cell of it: (N, channels, H, W) -> (N, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = convolution(channels, max(1, channels // 8), 1, 1.0, spectral=True, bias=False)
        self.key = convolution(channels, max(1, channels // 8), 1, 1.0, spectral=True, bias=False)
        self.value = convolution(channels, max(1, channels // 2), 1, 1.0, spectral=True, bias=False)
        self.output = convolution(max(1, channels // 2), channels, 1, 1.0, spectral=True, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Add what each place attends to, times gamma; labels are not looked at."""
        query = self.query(x).flatten(2)
        key = max_pool2d(self.key(x), 2).flatten(2)
        value = max_pool2d(self.value(x), 2).flatten(2)
        attention = torch.softmax(query.transpose(1, 2) @ key, dim=-1)  # (N, HW, HW/4)
        attended = (value @ attention.transpose(1, 2)).reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.gamma * self.output(attended)


def sagan(
    *, resolution: int = 32, width: int = 64, channels: int = 3, latent_dim: int = 128
) -> tuple[SNGANGenerator, SNGANDiscriminator]:
    """Build the pair; raises InputError for sizes that cannot be built."""
    check("sagan", resolution, width, channels, latent_dim)
    return _build(resolution, width, channels, latent_dim, None)


def csagan(
    *,
    resolution: int = 32,
    width: int = 64,
    channels: int = 3,
    latent_dim: int = 128,
    num_classes: int | None = None,
) -> tuple[SNGANGenerator, SNGANDiscriminator]:
    """Build the conditional pair for labels 0 .. num_classes - 1; raises InputError without classes."""
    check("csagan", resolution, width, channels, latent_dim)
    return _build(resolution, width, channels, latent_dim, check_classes("csagan", num_classes, without_labels="sagan"))


def _build(
    resolution: int, width: int, channels: int, latent_dim: int, num_classes: int | None
) -> tuple[SNGANGenerator, SNGANDiscriminator]:
    generator = SNGANGenerator(resolution, width, channels, latent_dim, num_classes, spectral=True)
    discriminator = SNGANDiscriminator(resolution, width, channels, num_classes)
    quarter = len(generator.blocks) - 2  # the last two blocks double a quarter of the image to the whole
    generator.blocks.insert(quarter, SelfAttention(width * GENERATOR[resolution][quarter]))
    discriminator.blocks.insert(2, SelfAttention(width * DISCRIMINATOR[resolution][1]))
    return generator, discriminator
