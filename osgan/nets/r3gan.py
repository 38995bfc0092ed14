"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", config E) at any power-of-two resolution from 16 up.

ResNeXt stages of inverted bottlenecks with grouped convolutions and no norm: the last convolution of a residual block
starts at zero, the others at He's scale over the fourth root of the number of blocks (fix-up initialisation, Zhang et
al. 2019). G and D mirror each other. Train it with the loss `rpgan+r1=GAMMA+r2=GAMMA`. G ends in a linear layer as the
authors' does: its images are not bounded, and clamped only to be looked at.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from osgan.nets.resampling import Downsample, Upsample
from osgan.nets.sizes import check_counts, check_multiple, check_power_of_two, pyramid

EXPANSION = 2
CHANNELS_A_GROUP = 16
SLOPE = 0.2


class ResidualBlock(nn.Module):
    """(N, channels, H, W) -> the same; one of `num_blocks` in its network."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        inner = channels * EXPANSION
        gain = math.sqrt(2 / (1 + SLOPE**2)) * num_blocks**-0.25
        self.expand = _convolution(channels, inner, 1, gain, bias=True)
        self.mix = _convolution(inner, inner, 3, gain, bias=True, groups=inner // CHANNELS_A_GROUP)
        self.project = _convolution(inner, channels, 1, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual."""
        h = leaky_relu(self.expand(x), SLOPE, inplace=True)
        h = leaky_relu(self.mix(h), SLOPE, inplace=True)
        residual: Tensor = self.project(h)
        return x + residual


class R3GANGenerator(nn.Module):
    """Latents (N, latent_dim) -> images (N, channels, resolution, resolution), not bounded."""

    def __init__(self, resolution: int, width: int, channels: int, latent_dim: int, blocks: int) -> None:
        super().__init__()
        features = pyramid(resolution, width)
        num_blocks = blocks * len(features)
        self.latent_dim = latent_dim
        self.linear = nn.Linear(latent_dim, features[0], bias=False)
        nn.init.normal_(self.linear.weight, 0.0, latent_dim**-0.5)
        self.basis = nn.Parameter(torch.randn(features[0], 4, 4))
        layers: list[nn.Module] = [ResidualBlock(features[0], num_blocks) for _ in range(blocks)]
        for inputs, outputs in pairwise(features):
            layers += [_transition(inputs, outputs), Upsample()]
            layers += [ResidualBlock(outputs, num_blocks) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, _convolution(features[-1], channels, 1, 1.0))

    def forward(self, z: Tensor) -> Tensor:
        """Generate one image a latent: mix a basis of 4x4 maps, then refine."""
        images: Tensor = self.layers(self.linear(z)[:, :, None, None] * self.basis)
        return images


class R3GANDiscriminator(nn.Module):
    """Images (N, channels, resolution, resolution) -> logits (N,)."""

    def __init__(self, resolution: int, width: int, channels: int, blocks: int) -> None:
        super().__init__()
        features = pyramid(resolution, width)[::-1]
        num_blocks = blocks * len(features)
        layers: list[nn.Module] = [_convolution(channels, features[0], 1, 1.0)]
        layers += [ResidualBlock(features[0], num_blocks) for _ in range(blocks)]
        for inputs, outputs in pairwise(features):
            layers += [Downsample(), _transition(inputs, outputs)]
            layers += [ResidualBlock(outputs, num_blocks) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        self.basis = nn.Parameter(torch.randn(features[-1], 4, 4) / 4)
        self.linear = nn.Linear(features[-1], 1, bias=False)
        nn.init.normal_(self.linear.weight, 0.0, features[-1] ** -0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Score each image: refine, then weigh its 4x4 maps by a basis."""
        logits: Tensor = self.linear((self.layers(images) * self.basis).sum((2, 3)))
        return logits.flatten()


def r3gan(
    *, resolution: int = 32, width: int = 768, channels: int = 3, latent_dim: int = 64, blocks: int = 2
) -> tuple[R3GANGenerator, R3GANDiscriminator]:
    """Build the pair: `blocks` a stage, `width` channels up to 32x32 and half as many with every doubling beyond.

    The authors' CIFAR-10 and FFHQ-64 networks are the defaults. Raises InputError for sizes that cannot be built.
    """
    check_power_of_two("r3gan", resolution, smallest=16)
    check_counts("r3gan", width=width, channels=channels, latent_dim=latent_dim, blocks=blocks)
    check_multiple("r3gan", "width", width, of=max(1, resolution // 32) * CHANNELS_A_GROUP // EXPANSION)
    return (
        R3GANGenerator(resolution, width, channels, latent_dim, blocks),
        R3GANDiscriminator(resolution, width, channels, blocks),
    )


def _transition(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else _convolution(inputs, outputs, 1, 1.0)


def _convolution(inputs: int, outputs: int, size: int, gain: float, bias: bool = False, groups: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=bias)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
