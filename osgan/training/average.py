"""The moving average of G's weights, which is what is sampled and judged."""

import torch
from torch import Tensor, nn

from osgan.copies import copy_of

WARM_UP = 0.05
"""The average's half-life in shares of the images so far, until it is the one asked for (StyleGAN2's ramp)."""


class MovingAverage:
    """The exponential moving average of G's weights, as a step of its own on the device; buffers are copied.

    A weight counts half after `half_life` images; of the first images after 0.05 times as many as there were, so that
    the weights that training began with are soon forgotten (Karras et al. 2020, StyleGAN2's implementation).
    """

    def __init__(self, generator: nn.Module, half_life: int, images_per_step: int) -> None:
        self._generator = generator
        self._half_life = float(half_life)
        self._images_per_step = images_per_step
        self.generator = copy_of(generator, "generator").eval().requires_grad_(False)
        """The averaged G, in evaluation mode."""
        device = next(generator.parameters()).device
        self.images = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards G; the share by which it moves is computed on the device."""
        self.images += self._images_per_step
        half_life = (WARM_UP * self.images).clamp(max=self._half_life)
        share = 1 - torch.exp2(-self._images_per_step / half_life)
        averages: list[Tensor] = list(self.generator.parameters())
        weights: list[Tensor] = list(self._generator.parameters())
        towards = list(torch._foreach_sub(weights, averages))
        torch._foreach_mul_(towards, share.to(towards[0].dtype))
        torch._foreach_add_(averages, towards)
        for average, buffer in zip(self.generator.buffers(), self._generator.buffers(), strict=True):
            average.copy_(buffer)

    def tensors(self) -> list[Tensor]:
        """Return the very tensors that `update` changes."""
        return [*self.generator.parameters(), *self.generator.buffers(), self.images]
