"""What the machine did while a case was measured: load, other processes, the GPU's clocks and what held them down."""

import os
import time
from contextlib import suppress
from typing import Any

import psutil
import torch

from bench.machine.nvidia import Gpu

HELD_DOWN_SHARE = 0.01
"""Share of the time above which a cause that held the clocks down is named."""


class Watch:
    """Takes notes between rounds; `notes` gives them as plain JSON values, null where nothing can be known.

    Between rounds a GPU idles, and what holds its clocks down is then not seen: the counters of it are, where there are
    any.
    """

    def __init__(self, device: torch.device, gpu: Gpu | None = None) -> None:
        self.gpu = gpu or Gpu(device)
        self.held_down_before = self.gpu.held_down_s()
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
        if self.held_down_before is None and (reasons := self.gpu.throttling()) is not None:
            self.throttling = (self.throttling or set()) | set(reasons)

    def notes(self) -> dict[str, Any]:
        """Return what was noted since the start."""
        own = _own_seconds() - self.own_before
        others = max(0.0, _busy_seconds() - self.busy_before - own)
        elapsed_s = time.perf_counter() - self.started
        available = elapsed_s * (os.cpu_count() or 1)
        return {
            "load_before": round(self.load_before, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "others_cpu_share": round(others / available, 4),
            "sm_clock_mhz": [min(self.clocks), max(self.clocks)] if self.clocks else None,
            "throttling": self._throttling(elapsed_s),
            "power_limit_watts": self.gpu.power_limit_watts(),
        }

    def _throttling(self, elapsed_s: float) -> list[str] | None:
        """Return what held the clocks down: by the counters, or else by what was seen between rounds."""
        before, after = self.held_down_before, self.gpu.held_down_s()
        if before is None or after is None:
            return None if self.throttling is None else sorted(self.throttling)
        least_s = HELD_DOWN_SHARE * elapsed_s
        return sorted(cause for cause in before if after.get(cause, 0.0) - before[cause] > least_s)


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
