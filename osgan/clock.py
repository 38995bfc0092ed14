"""The clock of a device: marks that wait for nothing, and the milliseconds between two of them."""

import time
from collections.abc import Callable
from typing import Any

import torch

Clock = tuple[Callable[[], Any], Callable[[Any, Any], float]]


def clock_of(device: torch.device) -> Clock:
    """Return what makes a mark, a CUDA event on a GPU, and what gives the milliseconds from one to a later one."""
    if device.type != "cuda":
        return time.perf_counter, lambda start, end: (end - start) * 1e3

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def elapsed_ms(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return start.elapsed_time(end)

    return mark, elapsed_ms


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done its work; a CPU has when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
