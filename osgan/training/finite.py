"""The losses of the steps of a run, read from the device between steps, never in one."""

from collections.abc import Sequence
from typing import Any

import torch

from osgan.errors import NonFiniteLossError
from osgan.parallel import processes


def finite_losses(
    pending: Sequence[Any],
    *,
    first_step: int,
    loss: str,
    remedy: str = "lower the learning rates or regularize the discriminator",
    over_processes: bool = False,
) -> list[list[float]]:
    """Read the losses of every step, named tuples of scalars such as StepStats, from the device.

    `over_processes` gives their means over all processes, each of which must ask for the same steps. Raises
    NonFiniteLossError, which names the step and the loss, for the first that is NaN or infinite.
    """
    if not pending:
        return []
    read = torch.stack([torch.stack(list(stats)) for stats in pending])
    losses: list[list[float]] = (processes.average(read) if over_processes else read).tolist()
    for offset, pair in enumerate(losses):
        for name, value in zip(pending[offset]._fields, pair, strict=True):
            if value - value != 0:
                raise NonFiniteLossError(f"{name} of {loss} is {value} at step {first_step + offset + 1}; {remedy}")
    return losses
