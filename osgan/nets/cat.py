"""CAT ("Cross-scale Aligned Supervision for Training GANs", Hyun et al. 2026, arXiv:2605.26449) on pixels.

GAT's G gives an image after each of `scales` shares of its blocks, and one D scores each of them at a resolution of its
own: the last at the full one, the one before at half of it. No scale sees another in D; G alone is to make its images
agree, by `osgan.regularizers.Consistency`. There is no code of the authors': sizes are those of osgan.nets.gat.
"""

import torch
from torch import Tensor, nn

from osgan.errors import InputError
from osgan.nets.gat import GATGenerator
from osgan.nets.sizes import check_choice, check_multiple
from osgan.nets.transformer import (
    Block,
    FromImage,
    Positions,
    Sizes,
    checked_sizes,
    linear,
    normalised,
    residual_scale,
    through,
)
from osgan.regularizers.consistency import shrinkages, shrunk

MAX_SCALES = 8


class CATGenerator(GATGenerator):
    """Latents (N, latent_dim) -> images (N, scales, channels, resolution, resolution) in [-1, 1] in training mode.

    They are drafts of one image, from the first to the last, which is all that evaluation mode gives: (N, channels,
    resolution, resolution).
    """

    def __init__(self, sizes: Sizes, latent_dim: int, scales: int) -> None:
        super().__init__(sizes, latent_dim, outputs=scales)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate one image a latent, with its drafts before it in training mode."""
        images = self.images(z, labels)
        return torch.stack(images, dim=1) if self.training else images[-1]


class CATDiscriminator(nn.Module):
    """Images (N, scales, channels, resolution, resolution) -> logits (N, scales), each of its own image alone.

    Images (N, channels, resolution, resolution) are scored at every scale.
    """

    def __init__(self, sizes: Sizes, scales: int) -> None:
        super().__init__()
        width, depth = sizes.width, sizes.depth
        self.checkpoint = sizes.checkpoint
        self.factors = shrinkages(scales)
        self.from_image = FromImage(sizes)
        self.positions = nn.ModuleList(Positions(sizes.grid // factor, width) for factor in self.factors)
        self.tokens = nn.Parameter(torch.randn(scales, width))  # of unit size, as in GAT
        self.segments = [(sizes.grid // factor) ** 2 + 1 for factor in self.factors]
        self.blocks = nn.ModuleList(Block(width, sizes.heads, residual_scale(depth)) for _ in range(depth))
        self.head = linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Score each image at its scale."""
        if images.ndim == 4:
            images = images[:, None].expand(-1, len(self.factors), -1, -1, -1)
        runs = []
        scales = zip(images.unbind(1), self.factors, self.positions, self.tokens, strict=True)
        for image, factor, positions, token in scales:
            x = positions(self.from_image(shrunk(image, factor)))
            runs += [token.expand(len(x), 1, -1), x]
        # Layers see the tokens of all scales at once; attention goes scale by scale, which is the block-diagonal mask
        # without the work of what it masks, and leaves the fused kernels that take no mask in use.
        x = torch.cat(runs, dim=1)
        for block in self.blocks:
            x = through(block, x, self.segments, checkpoint=self.checkpoint)
        h = torch.stack([run[:, 0] for run in x.split(self.segments, dim=1)], dim=1)  # (N, scales, width)
        logits: Tensor = self.head(normalised(h)).squeeze(2)
        return logits


def cat(
    *,
    resolution: int = 32,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    patch_size: int | None = None,
    latent_dim: int = 64,
    scales: int = 3,
    checkpoint: bool = False,
) -> tuple[CATGenerator, CATDiscriminator]:
    """Build the pair, by default with 16x16 patches at the largest scale: 2x2 pixels at resolution 32, 4x4 at 64.

    With `checkpoint` the backward pass recomputes every block. Raises InputError for sizes that cannot be built.
    """
    check_choice("cat", "scales", scales, range(2, MAX_SCALES + 1))
    sizes = checked_sizes("cat", resolution, channels, width, depth, heads, patch_size, latent_dim, checkpoint)
    check_multiple("cat", "resolution", resolution, of=sizes.patch_size * 2 ** (scales - 1))
    if depth < scales:
        raise InputError(f"cat: depth must be at least the number of scales, {scales}, got {depth}")
    return CATGenerator(sizes, latent_dim, scales), CATDiscriminator(sizes, scales)
