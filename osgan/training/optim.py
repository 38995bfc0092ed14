"""Optimizers for both players, in the form an engine can capture, and their optimistic variants.

Deliberately not here: schedules (torch.optim.lr_scheduler has them).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from osgan.errors import unknown


class _Optimistic(Optimizer):
    """Extrapolation from the past: the update counts twice, the one before is taken back.

    With u_t the update of the optimizer underneath, w_{t+1} = w_t + 2 u_t - u_{t-1} (Daskalakis et al. 2018, algorithm
    1; Gidel et al. 2019, section 3.3): one gradient a step, and simultaneous descent no longer spirals outwards.
    Done in hooks around the step of the optimizer underneath, so that other hooks run once.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._before: list[tuple[Tensor, Tensor]] = []
        self.register_step_pre_hook(_remember)
        self.register_step_post_hook(_extrapolate)


@torch.no_grad()
def _remember(optimizer: Any, arguments: Any, options: Any) -> None:
    optimizer._before = [
        (p, p.clone()) for group in optimizer.param_groups for p in group["params"] if p.grad is not None
    ]


@torch.no_grad()
def _extrapolate(optimizer: Any, arguments: Any, options: Any) -> None:
    if not optimizer._before:
        return
    moved, before = (list(tensors) for tensors in zip(*optimizer._before, strict=True))
    optimizer._before = []
    updates = torch._foreach_sub(moved, before)
    previous = [optimizer.state[p].setdefault("previous_update", torch.zeros_like(p)) for p in moved]
    torch._foreach_add_(moved, updates)
    torch._foreach_sub_(moved, previous)
    torch._foreach_copy_(previous, updates)


class OptimisticAdam(_Optimistic, Adam):
    """Adam with extrapolation from the past (Daskalakis et al. 2018, algorithm 1)."""


class OptimisticSGD(_Optimistic, SGD):
    """Gradient descent with extrapolation from the past (Gidel et al. 2019, section 3.3)."""


OPTIMIZERS: dict[str, type[Adam]] = {"adam": Adam, "optimistic_adam": OptimisticAdam}
"""By name, what `build_optimizer` builds."""


def build_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float]) -> Adam:
    """Build `adam` or `optimistic_adam`, fused, on a GPU capturable, its state there from the start and at zero.

    On a GPU the learning rate is a tensor, so that a schedule reaches a captured step. Raises InputError for an unknown
    name.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    weights = list(parameters)
    cuda = any(p.is_cuda for p in weights)
    rate: Any = torch.tensor(lr, device=weights[0].device) if cuda else lr
    first, second = map(float, betas)  # torch takes no whole number beside a float, and 0 is often written as one
    optimizer = OPTIMIZERS[name](weights, rate, (first, second), fused=True, capturable=cuda)
    for p in weights:
        optimizer.state[p] = _empty_state(p, name)
    return optimizer


def _empty_state(p: nn.Parameter, name: str) -> dict[str, Tensor]:
    """Return what Adam itself would start with; only then can a state be copied back into the same memory."""
    keys = ("exp_avg", "exp_avg_sq", "previous_update")[: 3 if name == "optimistic_adam" else 2]
    step = torch.zeros((), dtype=torch.float32, device=p.device)
    return {"step": step} | {key: torch.zeros_like(p, memory_format=torch.preserve_format) for key in keys}
