"""StyleGAN2 (Karras et al. 2020) at any power-of-two resolution from 16 up: G with skips to the image, residual D.

Mapping network, modulated and demodulated convolutions, noise, equalised learning rates, [1, 3, 3, 1] filters. Left
out: minibatch-stddev, which mixes samples and rules one-stage out; style mixing, path length regularisation and
truncation.
G ends in a sum of linear layers as the authors' does: its images are not bounded, and clamped only to be looked at.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu
from torch.nn.utils.parametrize import register_parametrization

from osgan.nets.resampling import Blur, Downsample, Upsample
from osgan.nets.sizes import check_counts, check_multiple, check_power_of_two, pyramid

MAPPING_LR = 0.01


class Scale(nn.Module):
    """A weight times a constant: weights of variance 1 then learn at one rate whatever their fan-in."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, weight: Tensor) -> Tensor:
        """Scale."""
        return weight * self.gain


def equalized(layer: nn.Linear | nn.Conv2d, *, lr: float = 1.0, bias: float = 0.0) -> nn.Module:
    """Give the layer weights N(0, 1) that are scaled by their fan-in when used and learn at `lr` times the rate."""
    nn.init.normal_(layer.weight, 0.0, 1 / lr)
    register_parametrization(layer, "weight", Scale(lr / math.sqrt(layer.weight[0].numel())))
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias / lr)
        if lr != 1:
            register_parametrization(layer, "bias", Scale(lr))
    return layer


class Activation(nn.Module):
    """LeakyReLU 0.2 times the square root of 2, which keeps the variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate."""
        return leaky_relu(x, 0.2) * math.sqrt(2)


class ModulatedConvolution(nn.Module):
    """(N, inputs, H, W), styles (N, style_dim) -> (N, outputs, H, W), or twice the H and W with `up`.

    An image's style scales the input channels; demodulation scales the output channels back to unit variance. Scaling
    the maps is the same as scaling the weights (section 2.2 of the paper) and needs no weights per image.
    """

    def __init__(self, inputs: int, outputs: int, size: int, style_dim: int, *, up: bool, demodulate: bool) -> None:
        super().__init__()
        self.affine = equalized(nn.Linear(style_dim, inputs), bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.gain = 1 / math.sqrt(inputs * size**2)
        self.up = up
        self.blur = Blur(padding=1, gain=4.0) if up else nn.Identity()
        self.padding = size // 2
        self.demodulate = demodulate

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """Convolve each image in its style."""
        style = self.affine(styles)
        weight = self.weight * self.gain
        x = x * style[:, :, None, None]
        if self.up:
            x = self.blur(conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            variance = style.square() @ weight.square().sum((2, 3)).T
            x = x * torch.rsqrt(variance + 1e-8)[:, :, None, None]
        return x


class StyledLayer(nn.Module):
    """A modulated 3x3 convolution, noise of a learned strength, bias and activation."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, up: bool, noise: bool) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(inputs, outputs, 3, style_dim, up=up, demodulate=True)
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.activation = Activation()

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """Convolve in the image's style."""
        x = self.convolution(x, styles)
        if self.noise_strength is not None:
            x = x + self.noise_strength * torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        activated: Tensor = self.activation(x + self.bias)
        return activated


class Stage(nn.Module):
    """All layers of G at one size: maps, image and styles -> maps and image at that size."""

    def __init__(self, inputs: int, outputs: int, channels: int, style_dim: int, *, noise: bool) -> None:
        super().__init__()
        self.up = StyledLayer(inputs, outputs, style_dim, up=True, noise=noise)
        self.layer = StyledLayer(outputs, outputs, style_dim, up=False, noise=noise)
        self.to_image = ModulatedConvolution(outputs, channels, 1, style_dim, up=False, demodulate=False)
        self.upsample = Upsample()

    def forward(self, x: Tensor, image: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        """Double both and add to the image."""
        x = self.layer(self.up(x, styles), styles)
        return x, self.upsample(image) + self.to_image(x, styles)


class StyleGAN2Generator(nn.Module):
    """Latents (N, latent_dim) -> images (N, channels, resolution, resolution), not bounded."""

    def __init__(
        self, resolution: int, width: int, channels: int, latent_dim: int, mapping_layers: int, noise: bool
    ) -> None:
        super().__init__()
        features = pyramid(resolution, width)
        self.latent_dim = latent_dim
        mapping: list[nn.Module] = []
        for _ in range(mapping_layers):
            mapping += [equalized(nn.Linear(latent_dim, latent_dim), lr=MAPPING_LR), Activation()]
        self.mapping = nn.Sequential(*mapping)
        self.constant = nn.Parameter(torch.randn(1, features[0], 4, 4))
        self.layer = StyledLayer(features[0], features[0], latent_dim, up=False, noise=noise)
        self.to_image = ModulatedConvolution(features[0], channels, 1, latent_dim, up=False, demodulate=False)
        self.stages = nn.ModuleList(
            Stage(inputs, outputs, channels, latent_dim, noise=noise) for inputs, outputs in pairwise(features)
        )
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Generate one image a latent."""
        styles = self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
        x = self.layer(self.constant.expand(z.shape[0], -1, -1, -1), styles)
        image: Tensor = self.to_image(x, styles) + self.bias  # one bias for the sum of all sizes
        for stage in self.stages:
            x, image = stage(x, image, styles)
        return image


class DownBlock(nn.Module):
    """D's residual block: (N, inputs, H, W) -> (N, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            equalized(nn.Conv2d(inputs, inputs, 3, padding=1)),
            Activation(),
            Blur(padding=2),
            equalized(nn.Conv2d(inputs, outputs, 3, stride=2)),
            Activation(),
        )
        self.shortcut = nn.Sequential(Downsample(), equalized(nn.Conv2d(inputs, outputs, 1, bias=False)))

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map."""
        halved: Tensor = (self.layers(x) + self.shortcut(x)) / math.sqrt(2)
        return halved


class StyleGAN2Discriminator(nn.Sequential):
    """Images (N, channels, resolution, resolution) -> logits (N,)."""

    def __init__(self, resolution: int, width: int, channels: int) -> None:
        features = pyramid(resolution, width)[::-1]
        last = features[-1]
        layers: list[nn.Module] = [equalized(nn.Conv2d(channels, features[0], 1)), Activation()]
        layers += [DownBlock(inputs, outputs) for inputs, outputs in pairwise(features)]
        layers += [equalized(nn.Conv2d(last, last, 3, padding=1)), Activation(), nn.Flatten()]
        layers += [equalized(nn.Linear(last * 16, last)), Activation(), equalized(nn.Linear(last, 1))]
        super().__init__(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Score each image."""
        logits: Tensor = super().forward(images)
        return logits.flatten()


def stylegan2(
    *,
    resolution: int = 64,
    width: int = 512,
    channels: int = 3,
    latent_dim: int = 512,
    mapping_layers: int = 8,
    noise: bool = True,
) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
    """Build the pair: `width` channels up to 32x32 and half as many with every doubling beyond (config E).

    Raises InputError for sizes that cannot be built.
    """
    check_power_of_two("stylegan2", resolution, smallest=16)
    check_counts("stylegan2", width=width, channels=channels, latent_dim=latent_dim, mapping_layers=mapping_layers)
    check_multiple("stylegan2", "width", width, of=max(1, resolution // 32))
    return (
        StyleGAN2Generator(resolution, width, channels, latent_dim, mapping_layers, noise),
        StyleGAN2Discriminator(resolution, width, channels),
    )
