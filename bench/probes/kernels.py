"""What runs on the GPU in a step, from torch.profiler: kernels, how long any of them runs, and which take the time."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.probes.timing import Arm

STEPS = 10
SHOWN = 12
MOVES = ("Memcpy", "Memset")


class Activity(NamedTuple):
    """A kernel, a copy or a fill on the device, in microseconds."""

    name: str
    start_us: float
    end_us: float


def profile_step(arm: Arm, device: torch.device, steps: int = STEPS) -> dict[str, Any]:
    """Profile steps of a warm arm: the figures of `summarise`; all None without CUDA."""
    if device.type != "cuda":
        return {"kernels": None, "busy_ms": None, "top_kernels": None}
    with arm.turn():
        arm.run(1)  # a captured step is captured before it is profiled
    # The turn's own check of the losses stays outside the profile.
    with arm.turn(), profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        arm.run(steps)
        torch.cuda.synchronize(device)
    events = [e for e in profiler.events() if e.device_type == DeviceType.CUDA]
    return summarise([Activity(e.name, e.time_range.start, e.time_range.end) for e in events], steps)


def summarise(activities: Iterable[Activity], steps: int) -> dict[str, Any]:
    """Return kernels a step, milliseconds a step in which anything runs, and the kernels that take most of them."""
    activities = sorted(activities, key=lambda activity: activity.start_us)
    kernels = [activity for activity in activities if not activity.name.startswith(MOVES)]
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for activity in activities:
        spent[activity.name] += (activity.end_us - activity.start_us) / 1e3 / steps
        calls[activity.name] += 1
    top = sorted(spent.items(), key=lambda item: -item[1])[:SHOWN]
    return {
        "kernels": round(len(kernels) / steps),
        "busy_ms": _union_us(activities) / 1e3 / steps,
        "top_kernels": [{"name": name, "ms": ms, "calls": calls[name] / steps} for name, ms in top],
    }


def _union_us(activities: Iterable[Activity]) -> float:
    """Return the time covered by activities sorted by their start; several streams may overlap."""
    covered, until = 0.0, float("-inf")
    for _, start, end in activities:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered
