"""An engine for a training loop of one's own: the caller hands over batches, the step has the scheme's signature."""

from collections.abc import Callable

import torch
from torch import Tensor

from osgan.batches import Batch, Batches
from osgan.errors import InputError
from osgan.step import Scheme, StepStats
from osgan.training.engine import Engine
from osgan.training.loop import Loop


class Accelerated:
    """A scheme run by an engine, called as the scheme itself: `step(real)` or `step(real, labels)`.

    Every batch is copied into memory of the device that stays the same, so all have one shape; the first call fixes it
    and builds what the engine needs. Raises InputError for a batch of another shape.
    """

    def __init__(self, scheme: Scheme, engine: Engine, *, after_step: Callable[[], None] | None = None) -> None:
        self.scheme = scheme
        self.engine = engine
        self.after_step = after_step
        self.loop: Loop | None = None

    def __call__(self, real: Tensor, labels: Tensor | None = None) -> StepStats:
        """Update G and D once on real images (N, C, H, W) in [-1, 1]."""
        if self.loop is None:
            self._given = _Given(real, labels, next(self.scheme.generator.parameters()).device)
            self.loop = Loop(
                self.scheme, self._given, self.engine, conditional=labels is not None, after_step=self.after_step
            )
        self._given.give(real, labels)
        return self.loop.step()


class _Given(Batches):
    """Batches that the caller hands over, from any device."""

    def __init__(self, real: Tensor, labels: Tensor | None, device: torch.device) -> None:
        super().__init__()
        self.batch = real.to(device, copy=True), None if labels is None else labels.to(device, copy=True)

    def give(self, real: Tensor, labels: Tensor | None) -> None:
        for mine, given in zip(self.batch, (real, labels), strict=True):
            if (given is None) != (mine is None) or (mine is not None and mine.shape != given.shape):  # type: ignore[union-attr]
                shapes = [None if t is None else tuple(t.shape) for t in (*self.batch, real, labels)]
                raise InputError(
                    f"an accelerated step takes batches of one shape: the first had images {shapes[0]} and labels "
                    f"{shapes[1]}, this one has {shapes[2]} and {shapes[3]}; leave out the incomplete last batch"
                )
            if mine is not None and given is not None:
                mine.copy_(given, non_blocking=True)

    def draw(self) -> Batch:
        return self.batch

    def _prepare(self) -> None:
        pass

    def _restart(self, drawn: int) -> None:
        pass
