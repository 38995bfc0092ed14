"""The learning rates of a run: a factor, step by step, from torch's own schedulers."""

import math
from collections.abc import Callable

import torch
from torch.optim import SGD, lr_scheduler

from osgan import spec
from osgan.errors import InputError
from osgan.limits import check_real


class Schedule:
    """A factor on both learning rates, step by step, from torch's own schedulers; raises InputError for a bad spec."""

    def __init__(self, text: str, *, num_steps: int) -> None:
        parsed = spec.parse(text)
        builder = spec.resolve("schedule", parsed.name, SCHEDULES)
        for key, _ in parsed.options:
            if key in ("optimizer", "num_steps"):
                raise InputError(f"schedule {text!r}: {key} follows from the run; leave the option out")
        self._optimizer = SGD([torch.zeros(())], lr=1.0)
        self._scheduler = spec.call("schedule", parsed, builder, optimizer=self._optimizer, num_steps=num_steps)
        self.changes = parsed.name != "constant"
        self.step = 0

    @property
    def factor(self) -> float:
        """The factor of the next step."""
        return float(self._scheduler.get_last_lr()[0])

    def advance(self, steps: int = 1) -> None:
        """Go on by so many steps."""
        self.step += steps
        for _ in range(steps if self.changes else 0):
            self._optimizer.step()
            self._scheduler.step()


def _multistep(
    optimizer: torch.optim.Optimizer, num_steps: int, at: tuple[float, ...], gamma: float = 0.1
) -> lr_scheduler.LRScheduler:
    shares = at if isinstance(at, tuple) else ()
    if not shares or not all(isinstance(share, float) and 0 < share < 1 for share in shares):
        raise InputError(f"schedule multistep: `at` takes shares of the run such as (0.5,0.75), got {at!r}")
    check_real("schedule multistep: gamma", gamma, lambda value: 0 < value < math.inf, "above 0")
    return lr_scheduler.MultiStepLR(optimizer, [round(share * num_steps) for share in at], gamma)


SCHEDULES: dict[str, Callable[..., lr_scheduler.LRScheduler]] = {
    "constant": lambda optimizer, num_steps: lr_scheduler.ConstantLR(optimizer, 1.0),
    "linear": lambda optimizer, num_steps: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, num_steps),
    "cosine": lambda optimizer, num_steps: lr_scheduler.CosineAnnealingLR(optimizer, num_steps),
    "multistep": _multistep,
}
