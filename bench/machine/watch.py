"""What the machine did while a case was measured: load, other processes, the GPU's clocks and what held them down."""

import os
import time
from contextlib import suppress
from typing import Any

import psutil
import torch

from bench.machine.nvidia import Gpu


class Watch:
    """Takes notes between rounds; `notes` gives them as plain JSON values, null where nothing can be known."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = Gpu(device)
        self.clocks: list[int] = []
        self.throttling: set[str] | None = None
        self.load_before = os.getloadavg()[0]
        self.started = time.perf_counter()
        self.busy_before = _busy_seconds()
        self.own_before = _own_seconds()

    def look(self) -> None:
        """Note the GPU's clock and throttling now."""
        if (clock := self.gpu.sm_clock_mhz()) is not None:
            self.clocks.append(clock)
        if (reasons := self.gpu.throttling()) is not None:
            self.throttling = (self.throttling or set()) | set(reasons)

    def notes(self) -> dict[str, Any]:
        """Return what was noted since the start."""
        own = _own_seconds() - self.own_before
        others = max(0.0, _busy_seconds() - self.busy_before - own)
        available = (time.perf_counter() - self.started) * (os.cpu_count() or 1)
        return {
            "load_before": round(self.load_before, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "others_cpu_share": round(others / available, 4),
            "sm_clock_mhz": [min(self.clocks), max(self.clocks)] if self.clocks else None,
            "throttling": None if self.throttling is None else sorted(self.throttling),
            "power_limit_watts": self.gpu.power_limit_watts(),
        }


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _own_seconds() -> float:
    """Return the processor time of this process and of those it started, data loaders or a case's other processes."""
    own = psutil.Process()
    seconds = 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
