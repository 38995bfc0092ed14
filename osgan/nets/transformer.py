"""What the transformer families GAT and CAT share: sizes, patches, positions, attention, blocks.

Pre-norm blocks as GAT has them (Hyun et al. 2025, arXiv:2509.24935): RMSNorm, attention with normalised queries and
keys, a SwiGLU feed-forward layer, layer scale. No dropout, and nothing that mixes samples. Attention is PyTorch's own
fused operator, which the penalties of osgan.regularizers have computed by its plain formula.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint as recomputed

from osgan.nets.sizes import check_choice, check_counts, check_multiple, check_resolution, is_count

GRID = 16
"""Tokens along a side, unless a patch size says otherwise."""
STYLE_GAIN = 0.5
"""How much a style scales channels at first: by 1 + N(0, STYLE_GAIN^2)."""


@dataclass(frozen=True)
class Sizes:
    """What G and D of a pair have in common."""

    resolution: int
    channels: int
    width: int
    depth: int
    heads: int
    patch_size: int
    checkpoint: bool

    @property
    def grid(self) -> int:
        """Tokens along a side of the image."""
        return self.resolution // self.patch_size

    @property
    def window(self) -> tuple[int, int, int]:
        """Kernel size, stride and padding that lay a patch and half of its neighbours around it at every token."""
        overlap = self.patch_size // 2
        return self.patch_size + 2 * overlap, self.patch_size, overlap


def checked_sizes(
    family: str,
    resolution: int,
    channels: int,
    width: int,
    depth: int,
    heads: int,
    patch_size: int | None,
    latent_dim: int,
    checkpoint: bool,
) -> Sizes:
    """Return the sizes, by default with GRID x GRID patches; raises InputError for sizes that cannot be built."""
    if patch_size is None and is_count(resolution):
        patch_size = max(1, resolution // GRID)
    counts = {"resolution": resolution, "channels": channels, "width": width, "depth": depth, "heads": heads}
    check_counts(family, **counts, patch_size=patch_size, latent_dim=latent_dim)
    check_choice(family, "checkpoint", checkpoint, (False, True))
    check_resolution(family, resolution)
    assert patch_size is not None
    check_multiple(family, "resolution", resolution, of=patch_size)
    check_multiple(family, "width", width, of=heads)
    return Sizes(resolution, channels, width, depth, heads, patch_size, bool(checkpoint))


def residual_scale(depth: int) -> float:
    """Return at what share of its size a residual starts: all 2 * depth of them together have the variance of one."""
    return (2 * depth) ** -0.5


def normalised(x: Tensor) -> Tensor:
    """Divide (..., width) by its root mean square: RMSNorm without a gain, which the layer after it has anyway."""
    return rms_norm(x, x.shape[-1:], eps=1e-6)


class Attention(nn.Module):
    """Tokens (N, T, width) -> (N, T, width): each attends to all, or to those of its own segment.

    `segments` are the lengths of consecutive runs of tokens, T in all. Queries and keys are normalised in each head.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = linear(width, 3 * width)
        self.sharpness = nn.Parameter(torch.ones(width // heads))  # the gain of queries and keys, whose product counts
        self.output = linear(width, width)

    def forward(self, x: Tensor, segments: Sequence[int] = ()) -> Tensor:
        """Attend."""
        query, key, value = self.inputs(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = normalised(query) * self.sharpness, normalised(key)  # (N, heads, T, width / heads)
        if segments:
            runs = zip(*(part.split(segments, dim=2) for part in (query, key, value)), strict=True)
            attended = torch.cat([scaled_dot_product_attention(*run) for run in runs], dim=2)
        else:
            attended = scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): (..., width) -> (..., width), with 8/3 of the width within."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 8 * math.ceil(width / 3)
        self.expand = linear(width, 2 * inner)
        self.project = linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token."""
        gate, value = self.expand(x).chunk(2, dim=-1)
        transformed: Tensor = self.project(silu(gate) * value)
        return transformed


class Block(nn.Module):
    """D's block: tokens (N, T, width) -> the same, with a learnt scale of each channel of either residual."""

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.attention_scale = nn.Parameter(torch.full((width,), scale))
        self.feed_forward = FeedForward(width)
        self.feed_forward_scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, segments: Sequence[int] = ()) -> Tensor:
        """Add both residuals."""
        x = x + self.attention_scale * self.attention(normalised(x), segments)
        residual: Tensor = self.feed_forward(normalised(x))
        return x + self.feed_forward_scale * residual


class ModulatedBlock(nn.Module):
    """G's block: tokens (N, T, width), styles (N, width) -> tokens; a style scales what enters a layer and what leaves.

    The scales of what leaves start at N(scale, scale^2), so that images differ from the first step on.
    """

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width)
        self.scales = linear(width, 2 * width, gain=STYLE_GAIN)
        self.gates = linear(width, 2 * width, gain=scale)
        nn.init.constant_(self.gates.bias, scale)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Add both residuals in the image's style."""
        of_attention, of_feed_forward = self.scales(style)[:, None].chunk(2, dim=-1)
        attention_gate, feed_forward_gate = self.gates(style)[:, None].chunk(2, dim=-1)
        x = x + attention_gate * self.attention(normalised(x) * (1 + of_attention))
        residual: Tensor = self.feed_forward(normalised(x) * (1 + of_feed_forward))
        return x + feed_forward_gate * residual


class FromImage(nn.Conv2d):
    """Images (N, channels, resolution, resolution) -> tokens (N, grid * grid, width), row by row.

    Patches overlap by half on every side, unlike a vision transformer's: where they only touch, small networks take
    thousands of steps to learn which of them are neighbours, and G's images are mosaics until then.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes.channels, sizes.width, *sizes.window)
        nn.init.normal_(self.weight, 0.0, self.weight[0].numel() ** -0.5)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Turn every patch into a token."""
        return super().forward(images).flatten(2).transpose(1, 2)


class ToImage(nn.ConvTranspose2d):
    """Tokens (N, grid * grid, width) -> what they add to images (N, channels, resolution, resolution).

    Patches overlap as in `FromImage`, and are summed where they do.
    """

    def __init__(self, sizes: Sizes, *, gain: float) -> None:
        super().__init__(sizes.width, sizes.channels, *sizes.window)
        self.grid = sizes.grid
        summed = sizes.width * (sizes.window[0] / sizes.patch_size) ** 2
        nn.init.normal_(self.weight, 0.0, gain * summed**-0.5)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Turn every token into a patch."""
        return super().forward(x.transpose(1, 2).unflatten(2, (self.grid, self.grid)), output_size)


class Positions(nn.Module):
    """A learnt vector for each of grid * grid tokens; at first sines and cosines of the token's row and column.

    Their waves are from twice the grid to two tokens long.
    """

    def __init__(self, grid: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(grid * grid, width))
        frequencies = math.pi * grid ** -torch.linspace(1, 0, math.ceil(width / 4))
        angles = (torch.arange(grid) + 0.5)[:, None] * frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
        rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
        with torch.no_grad():
            self.weight.copy_(torch.stack([rows, columns], dim=3).flatten(2).flatten(0, 1)[:, :width])

    def forward(self, x: Tensor) -> Tensor:
        """Add to tokens (N, grid * grid, width)."""
        return x + self.weight


def linear(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """Return a fully connected layer whose outputs have the inputs' variance times the gain squared; biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0.0, gain * inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def through(block: nn.Module, *given: object, checkpoint: bool) -> Tensor:
    """Return what the block makes of what is given; with `checkpoint` its activations are computed again, not kept."""
    if not checkpoint:
        result: Tensor = block(*given)
        return result
    # No random number is drawn within, so no random state need be kept.
    return recomputed(block, *given, use_reentrant=False, preserve_rng_state=False)
