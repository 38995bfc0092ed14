"""GAT ("Scalable GANs with Transformers", Hyun et al. 2025, arXiv:2509.24935) on pixels, by default of its size S.

G: a style, made from the latent by a small network, scales what goes through blocks over learnt position tokens, which
become patches. D: a vision transformer whose class token is scored. Patches overlap, as there is no autoencoder here to
join them. Left out is what the paper puts around the networks: that autoencoder, rotary positions, G's intermediate
outputs (see osgan.nets.cat) with noise on them, a pretrained network's features, a learning rate that falls with width.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from osgan.nets.sizes import check_classes
from osgan.nets.transformer import (
    STYLE_GAIN,
    Block,
    FromImage,
    ModulatedBlock,
    Positions,
    Sizes,
    ToImage,
    checked_sizes,
    linear,
    normalised,
    residual_scale,
    through,
)


class StyledToImage(nn.Module):
    """Tokens (N, T, width), styles (N, width) -> what they add to images, one of `outputs` summands of equal size."""

    def __init__(self, sizes: Sizes, outputs: int) -> None:
        super().__init__()
        self.scale = linear(sizes.width, sizes.width, gain=STYLE_GAIN)
        self.to_image = ToImage(sizes, gain=outputs**-0.5)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Turn every token into a patch, in the image's style."""
        added: Tensor = self.to_image(normalised(x) * (1 + self.scale(style)[:, None]))
        return added


class GATGenerator(nn.Module):
    """Latents (N, latent_dim)[, labels (N,)] -> images (N, channels, resolution, resolution) in [-1, 1].

    Labels are taken if, and only if, there are `num_classes`. The image is the tanh of a sum of what each of `outputs`
    equal shares of the blocks adds to it.
    """

    def __init__(self, sizes: Sizes, latent_dim: int, num_classes: int | None = None, outputs: int = 1) -> None:
        super().__init__()
        width, depth = sizes.width, sizes.depth
        self.latent_dim = latent_dim
        self.checkpoint = sizes.checkpoint
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, latent_dim)
        inputs = latent_dim if num_classes is None else 2 * latent_dim
        self.mapping = nn.Sequential(linear(inputs, width), nn.SiLU(), linear(width, width))
        self.positions = Positions(sizes.grid, width)
        blocks = [ModulatedBlock(width, sizes.heads, residual_scale(depth)) for _ in range(depth)]
        ends = [depth * number // outputs for number in range(outputs + 1)]
        self.stages = nn.ModuleList(nn.ModuleList(blocks[start:end]) for start, end in pairwise(ends))
        self.to_images = nn.ModuleList(StyledToImage(sizes, outputs) for _ in range(outputs))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate one image a latent."""
        return self.images(z, labels)[-1]

    def images(self, z: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        """Return the images after each share of the blocks."""
        style = normalised(z)
        if self.embedding is not None:
            style = torch.cat([style, normalised(self.embedding(labels))], dim=1)
        style = normalised(self.mapping(style))
        x = self.positions.weight.expand(len(z), -1, -1)
        images: list[Tensor] = []
        total: Tensor | None = None
        for blocks, to_image in zip(self.stages, self.to_images, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = through(block, x, style, checkpoint=self.checkpoint)
            total = to_image(x, style) if total is None else total + to_image(x, style)
            images.append(torch.tanh(total))
        return images


class GATDiscriminator(nn.Module):
    """Images (N, channels, resolution, resolution)[, labels (N,)] -> logits (N,)."""

    def __init__(self, sizes: Sizes, num_classes: int | None = None) -> None:
        super().__init__()
        width, depth = sizes.width, sizes.depth
        self.checkpoint = sizes.checkpoint
        self.from_image = FromImage(sizes)
        self.positions = Positions(sizes.grid, width)
        self.token = nn.Parameter(torch.randn(width))  # of unit size: a small one, normalised, would start D off steep
        self.blocks = nn.ModuleList(Block(width, sizes.heads, residual_scale(depth)) for _ in range(depth))
        self.head = linear(width, 1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, width**-0.5)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score each image, as one of its class if there are labels."""
        x = self.positions(self.from_image(images))
        x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)
        for block in self.blocks:
            x = through(block, x, checkpoint=self.checkpoint)
        h = normalised(x[:, 0])
        logits: Tensor = self.head(h).flatten()
        return logits if self.embedding is None else logits + (h * self.embedding(labels)).sum(1)


def gat(
    *,
    resolution: int = 32,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    patch_size: int | None = None,
    latent_dim: int = 64,
    checkpoint: bool = False,
) -> tuple[GATGenerator, GATDiscriminator]:
    """Build the pair, by default with 16x16 patches: 2x2 pixels at resolution 32, 4x4 at 64.

    With `checkpoint` the backward pass recomputes every block. Raises InputError for sizes that cannot be built.
    """
    sizes = checked_sizes("gat", resolution, channels, width, depth, heads, patch_size, latent_dim, checkpoint)
    return GATGenerator(sizes, latent_dim), GATDiscriminator(sizes)


def cgat(
    *,
    resolution: int = 32,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    patch_size: int | None = None,
    latent_dim: int = 64,
    checkpoint: bool = False,
    num_classes: int | None = None,
) -> tuple[GATGenerator, GATDiscriminator]:
    """Build the conditional pair for labels 0 .. num_classes - 1; raises InputError without classes."""
    sizes = checked_sizes("cgat", resolution, channels, width, depth, heads, patch_size, latent_dim, checkpoint)
    num_classes = check_classes("cgat", num_classes, without_labels="gat")
    return GATGenerator(sizes, latent_dim, num_classes), GATDiscriminator(sizes, num_classes)
