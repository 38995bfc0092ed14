"""What the harness measures: one scheme of one case, whether it trains a GAN, in several processes, or a game."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.suite.cases import Case
from osgan.cost import Work


class BenchArm(Protocol):
    """An arm; satisfies `bench.probes.timing.Arm`. What a kind of arm does not have is None."""

    ran_as: str | None
    """The scheme that stands in for one that is not exact here, as the suite's `fallback` says."""
    ran_as_because: str | None

    @property
    def case(self) -> Case:
        """The point of the matrix."""

    @property
    def steps_done(self) -> int:
        """Steps since the start, or since `restart`."""

    @property
    def fallbacks(self) -> list[str]:
        """What the engine could not do here."""

    @property
    def period(self) -> int:
        """Steps after which lazy regularizers are due again: equal work is whole periods."""

    @property
    def images_per_step(self) -> int:
        """Images that D, or the student, learns from in a step of this process."""

    def run(self, steps: int) -> None:
        """Take that many steps; waits for nothing on the device."""

    def turn(self) -> AbstractContextManager[None]:
        """Context of one visit: the arm's random state, and at the end a check of its losses."""

    def snapshot(self) -> list[Any]:
        """Return copies of all that a step changes, for `restart`."""

    def restart(self, snapshot: list[Any]) -> None:
        """Go back to the first step."""

    def forget_graphs(self) -> None:
        """Make the next steps capture their graphs anew."""

    def count(self) -> Work:
        """Take a step and count what it did."""

    def phases(self, device: torch.device, steps: int) -> dict[str, float] | None:
        """Return milliseconds a step by phase, over so many steps; None for steps without such phases."""

    def prediction(self) -> dict[str, float]:
        """Return what a model makes of a step of several processes; nothing for one process."""

    def sample(self, n: int) -> Tensor | None:
        """Return n generated images (n, C, H, W) in [-1, 1] if there are any."""

    def real_images(self, n: int) -> Tensor | None:
        """Return n real images (n, C, H, W) in [-1, 1] if the arm has data."""
