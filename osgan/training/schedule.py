"""What changes over a run, learning rates and penalties: a factor, step by step, from torch's own schedulers."""

import math
from collections.abc import Callable

import torch
from torch.optim import SGD, lr_scheduler

from osgan import spec
from osgan.errors import InputError
from osgan.limits import check_real


class Schedule:
    """A factor, step by step, from torch's own schedulers; raises InputError for a bad spec.

    `warmup=0.02` of any schedule is the share of the run over which the factor first rises from (nearly) 0 in a line;
    `to=0.1` of linear and cosine is where it ends.
    """

    def __init__(self, text: str, *, num_steps: int) -> None:
        parsed = spec.parse(text)
        warmup = dict(parsed.options).get("warmup", 0.0)
        check_real(f"schedule {text!r}: warmup", warmup, lambda value: 0 <= value < 1, "from 0 up to 1, 1 left out")
        parsed = spec.Spec(parsed.name, tuple((key, value) for key, value in parsed.options if key != "warmup"))
        builder = spec.resolve("schedule", parsed.name, SCHEDULES)
        for key, _ in parsed.options:
            if key in ("optimizer", "num_steps"):
                raise InputError(f"schedule {text!r}: {key} follows from the run; leave the option out")
        self._optimizer = SGD([torch.zeros(())], lr=1.0)
        num_rising = round(warmup * num_steps)
        rest = {"optimizer": self._optimizer, "num_steps": max(1, num_steps - num_rising)}
        self._scheduler: lr_scheduler.LRScheduler = spec.call("schedule", parsed, builder, **rest)
        if num_rising:
            rising = lr_scheduler.LinearLR(self._optimizer, 1 / (num_rising + 1), 1.0, num_rising)
            self._scheduler = lr_scheduler.SequentialLR(self._optimizer, [rising, self._scheduler], [num_rising])
        self.changes = parsed.name != "constant" or num_rising > 0
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


def _linear(optimizer: torch.optim.Optimizer, num_steps: int, to: float = 0.0) -> lr_scheduler.LRScheduler:
    _check_end("linear", to)
    return lr_scheduler.LinearLR(optimizer, 1.0, to, num_steps)


def _cosine(optimizer: torch.optim.Optimizer, num_steps: int, to: float = 0.0) -> lr_scheduler.LRScheduler:
    _check_end("cosine", to)
    return lr_scheduler.CosineAnnealingLR(optimizer, num_steps, to)


def _check_end(name: str, to: float) -> None:
    check_real(f"schedule {name}: to", to, lambda value: 0 <= value <= 1, "from 0 to 1")


SCHEDULES: dict[str, Callable[..., lr_scheduler.LRScheduler]] = {
    "constant": lambda optimizer, num_steps: lr_scheduler.ConstantLR(optimizer, 1.0),
    "linear": _linear,
    "cosine": _cosine,
    "multistep": _multistep,
}
