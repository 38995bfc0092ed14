"""SNGAN ResNet (Miyato et al. 2018, tables 3 to 5; 64x64 as in their later code) at 32, 48, 64 and 128 pixels.

Pre-activation residual blocks, nearest up-sampling, mean pooling, Xavier weights, biases 0; BatchNorm in G, spectral
norm on every layer of D, whose features are summed over the image. The conditional pair (Miyato & Koyama 2018) has
conditional BatchNorm in G's blocks and a projection of the features on an embedding of the label in D.

Spectral norm takes one power iteration a forward pass in train mode: D moves a little whenever it scores.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu
from torch.nn.utils.parametrizations import spectral_norm

from osgan.nets.sizes import check_choice, check_classes, check_counts

# Channels in units of the width, from the smallest map on in G and from the image on in D
GENERATOR = {32: (4, 4, 4, 4), 48: (8, 4, 2, 1), 64: (16, 8, 4, 2, 1), 128: (16, 16, 8, 4, 2, 1)}
DISCRIMINATOR = {32: (2, 2, 2, 2), 48: (1, 2, 4, 8, 16), 64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16)}
NUM_DOWN = {32: 2, 48: 4, 64: 5, 128: 5}


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm whose gain and bias are the label's: (N, channels, H, W), labels (N,) -> (N, channels, H, W)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Embedding(num_classes, channels)
        self.bias = nn.Embedding(num_classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalise, then scale and shift each image as its class has it."""
        gain, bias = self.gain(labels), self.bias(labels)
        return torch.addcmul(bias[:, :, None, None], gain[:, :, None, None], self.norm(x))


class UpBlock(nn.Module):
    """G's residual block: (N, inputs, H, W) -> (N, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, num_classes: int | None, spectral: bool) -> None:
        super().__init__()
        self.norm1 = _norm(inputs, num_classes)
        self.conv1 = convolution(inputs, outputs, 3, 2**0.5, spectral)
        self.norm2 = _norm(outputs, num_classes)
        self.conv2 = convolution(outputs, outputs, 3, 2**0.5, spectral)
        self.shortcut = convolution(inputs, outputs, 1, 1.0, spectral)

    def forward(self, x: Tensor, *labels: Tensor) -> Tensor:
        """Double the map."""
        h = interpolate(relu(self.norm1(x, *labels)), scale_factor=2.0)
        h = self.conv2(relu(self.norm2(self.conv1(h), *labels)))
        return h + self.shortcut(interpolate(x, scale_factor=2.0))


class FirstBlock(nn.Module):
    """D's first residual block, which does not activate the image: (N, channels, H, W) -> (N, outputs, H/2, W/2)."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, outputs, 3, 2**0.5, spectral=True)
        self.conv2 = convolution(outputs, outputs, 3, 2**0.5, spectral=True)
        self.shortcut = convolution(channels, outputs, 1, 1.0, spectral=True)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the image."""
        h = self.conv2(relu(self.conv1(x)))
        return avg_pool2d(h, 2) + self.shortcut(avg_pool2d(x, 2))


class DownBlock(nn.Module):
    """D's residual block: (N, inputs, H, W) -> (N, outputs, H/2, W/2), or of the same H and W if not `down`."""

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, inputs, 3, 2**0.5, spectral=True)
        self.conv2 = convolution(inputs, outputs, 3, 2**0.5, spectral=True)
        learned = down or inputs != outputs
        self.shortcut = convolution(inputs, outputs, 1, 1.0, spectral=True) if learned else nn.Identity()
        self.pool = nn.AvgPool2d(2) if down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map, or keep its size."""
        h = self.conv2(relu(self.conv1(relu(x))))
        pooled: Tensor = self.pool(h + self.shortcut(x))
        return pooled


class SNGANGenerator(nn.Module):
    """Latents (N, latent_dim)[, labels (N,)] -> images (N, channels, resolution, resolution) in [-1, 1].

    Labels are taken if, and only if, there are `num_classes`; `spectral` puts spectral norm on G as well.
    """

    def __init__(
        self,
        resolution: int,
        width: int,
        channels: int,
        latent_dim: int,
        num_classes: int | None = None,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        features = [width * units for units in GENERATOR[resolution]]
        self.latent_dim = latent_dim
        self.smallest = features[0], *[resolution >> (len(features) - 1)] * 2
        self.linear = linear(latent_dim, features[0] * self.smallest[1] ** 2, spectral)
        self.blocks = nn.ModuleList(
            UpBlock(inputs, outputs, num_classes, spectral) for inputs, outputs in pairwise(features)
        )
        self.norm = nn.BatchNorm2d(features[-1])  # not conditional in the papers' code either
        self.to_image = convolution(features[-1], channels, 3, 1.0, spectral)

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Generate one image a latent."""
        h = self.linear(z).reshape(-1, *self.smallest)
        for block in self.blocks:
            h = block(h, *labels)
        return torch.tanh(self.to_image(relu(self.norm(h))))


class SNGANDiscriminator(nn.Module):
    """Images (N, channels, resolution, resolution)[, labels (N,)] -> logits (N,)."""

    def __init__(self, resolution: int, width: int, channels: int, num_classes: int | None = None) -> None:
        super().__init__()
        features = [width * units for units in DISCRIMINATOR[resolution]]
        self.blocks = nn.ModuleList([FirstBlock(channels, features[0])])
        for index in range(1, len(features)):
            self.blocks.append(DownBlock(features[index - 1], features[index], down=index < NUM_DOWN[resolution]))
        self.head = linear(features[-1], 1, spectral=True)
        self.embedding = None if num_classes is None else _embedding(num_classes, features[-1])

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score each image, as one of its class if there are labels."""
        h = images
        for block in self.blocks:
            h = block(h)
        h = relu(h).sum((2, 3))
        logits: Tensor = self.head(h).flatten()
        return logits if self.embedding is None else logits + (h * self.embedding(labels)).sum(1)


def sngan(
    *, resolution: int = 32, width: int = 64, channels: int = 3, latent_dim: int = 128
) -> tuple[SNGANGenerator, SNGANDiscriminator]:
    """Build the pair; at the papers' width of 64, G has 256 and D 128 channels at 32 pixels.

    Raises InputError for sizes that cannot be built.
    """
    check("sngan", resolution, width, channels, latent_dim)
    return (
        SNGANGenerator(resolution, width, channels, latent_dim),
        SNGANDiscriminator(resolution, width, channels),
    )


def csngan(
    *,
    resolution: int = 32,
    width: int = 64,
    channels: int = 3,
    latent_dim: int = 128,
    num_classes: int | None = None,
) -> tuple[SNGANGenerator, SNGANDiscriminator]:
    """Build the conditional pair for labels 0 .. num_classes - 1; raises InputError without classes."""
    check("csngan", resolution, width, channels, latent_dim)
    num_classes = check_classes("csngan", num_classes, without_labels="sngan")
    return (
        SNGANGenerator(resolution, width, channels, latent_dim, num_classes),
        SNGANDiscriminator(resolution, width, channels, num_classes),
    )


def check(family: str, resolution: int, width: int, channels: int, latent_dim: int) -> None:
    """Raise InputError for sizes that cannot be built."""
    check_choice(family, "resolution", resolution, GENERATOR)
    check_counts(family, width=width, channels=channels, latent_dim=latent_dim)


def convolution(inputs: int, outputs: int, size: int, gain: float, spectral: bool, *, bias: bool = True) -> nn.Module:
    """Return a convolution that keeps the map's size, with Xavier weights of that gain."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def linear(inputs: int, outputs: int, spectral: bool) -> nn.Module:
    """Return a fully connected layer with Xavier weights."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


def _embedding(num_classes: int, features: int) -> nn.Module:
    layer = nn.Embedding(num_classes, features)
    nn.init.xavier_uniform_(layer.weight)
    return spectral_norm(layer)


def _norm(channels: int, num_classes: int | None) -> nn.Module:
    return nn.BatchNorm2d(channels) if num_classes is None else ConditionalBatchNorm2d(channels, num_classes)
