"""What can be captured as a CUDA graph, what a graph holds for good, and the end of a capture that failed."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from osgan.parallel import processes


def objection(device: torch.device, optimizers: Iterable[Optimizer]) -> str | None:
    """Say why a step of these optimizers cannot be captured on the device; None if nothing is known against it."""
    if device.type != "cuda":
        return f"a device of type {device.type} has no CUDA graphs"
    if processes.size() > 1:
        return "capturing reductions over several processes has not been tried"
    for optimizer in optimizers:
        if any(not group.get("capturable", True) for group in optimizer.param_groups):
            return f"{type(optimizer).__name__} is not capturable: pass capturable=True, or use osgan.optim"
    return None


def host_state(optimizers: Iterable[Optimizer]) -> str | None:
    """Say which state an optimizer keeps in host memory, where a replay does not change it; None if there is none."""
    for optimizer in optimizers:
        for state in optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, int | float) or (isinstance(value, Tensor) and not value.is_cuda):
                    return f"{type(optimizer).__name__} keeps {key!r} in host memory, which a replay does not change"
    return None


def hyperparameters(optimizers: Iterable[Optimizer]) -> list[Any]:
    """Return what a captured step holds for good: numbers by value, tensors, which are read anew, by identity."""
    return [
        id(value) if isinstance(value, Tensor) else value
        for optimizer in optimizers
        for group in optimizer.param_groups
        for key, value in group.items()
        if key != "params"
    ]


def end_failed(graph: torch.cuda.CUDAGraph, caller: torch.cuda.Stream) -> None:
    """Leave the process as it was: on the caller's stream, its random generator out of capture."""
    torch.cuda.set_stream(caller)
    torch.cuda.synchronize(caller.device)
    del graph
    # Older PyTorch (2.11) leaves the generator capturing, and any draw then fails; a capture that succeeds ends that.
    with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
        torch.zeros(1, device=caller.device)
    torch.cuda.set_stream(caller)
