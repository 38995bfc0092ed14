"""Peak memory of an arm on its own, with nothing of the other arms alive.

On a GPU the caching allocator's peaks, in a phase of its own. On a CPU the growth of the resident set of a process of
its own, from before the arm is built to the peak of a few steps.
"""

import gc
import re
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import psutil
import torch

from bench.child import child, messages, was_killed
from bench.probes.timing import Arm
from bench.results.values import OUT_OF_MEMORY
from osgan.errors import InputError

STEPS = 3
ATTEMPTS = 2
Peaks = dict[str, float | None]


class CapturedArm(Arm, Protocol):
    """An arm whose steps may be captured graphs."""

    def forget_graphs(self) -> None:
        """Make the next steps capture their graphs anew."""


ArmBuilder = Callable[[], CapturedArm]


def nothing() -> Peaks:
    """Return the peaks that were not measured."""
    return {"peak_allocated_mib": None, "peak_reserved_mib": None, "peak_resident_growth_mib": None}


def on_gpu(arm_of: ArmBuilder, device: torch.device) -> Peaks:
    """Build an arm, take steps, and return how far they raise the allocator's marks above what was there before.

    Steps are taken twice and the second time counts: the first holds cuDNN's search, whose workspaces only the first
    arm of a process pays for. The graphs of a captured arm are made anew meanwhile, since a replay allocates nothing.
    """
    _free(device)
    before = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    arm = arm_of()
    _work(arm)
    arm.forget_graphs()
    _free(device)
    torch.cuda.reset_peak_memory_stats(device)
    _work(arm)
    return nothing() | {
        "peak_allocated_mib": (torch.cuda.max_memory_allocated(device) - before[0]) / 2**20,
        "peak_reserved_mib": (torch.cuda.max_memory_reserved(device) - before[1]) / 2**20,
    }


def _free(device: torch.device) -> None:
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()


def largest_that_fits(objection: Callable[[int], str | None], start: int) -> tuple[int | None, str | None]:
    """Return the largest batch size without an objection, to an eighth, from `start` up, and what is said to more.

    The size is None if `start` already meets one.
    """
    if ended_by := objection(start):
        return None, ended_by
    low, high = start, start * 2
    while not (ended_by := objection(high)):
        low, high = high, high * 2
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        if found := objection(middle):
            high, ended_by = middle, found
        else:
            low = middle
    return low, ended_by


def largest_batch(
    arm_of_batch: Callable[[int], CapturedArm], start: int, *, parts: int = 1
) -> tuple[int | None, str | None]:
    """Search the largest batch with which the arm can take steps on this GPU; also return what ended the search.

    Only batches that so many `parts` share equally are tried; `start` is one.
    """

    def objection(size_of_part: int) -> str | None:
        gc.collect()
        torch.cuda.empty_cache()
        try:
            _work(arm_of_batch(size_of_part * parts))
        except torch.OutOfMemoryError:
            return OUT_OF_MEMORY
        except InputError as error:  # the data set may be the smaller one
            return str(error)
        return None

    largest, ended_by = largest_that_fits(objection, start // parts)
    return (None if largest is None else largest * parts), ended_by


def on_cpu(prepare: Callable[[], ArmBuilder], deadline: float) -> Peaks:
    """Run the arm in a process of its own and return the peak growth of its resident set from when it is built.

    `prepare`, picklable, loads the data there and returns the builder. A failure, or the deadline, a time of
    time.monotonic(), gives no figure: the case itself, which runs after this, says why. A process that a signal
    killed is begun once more.
    """
    growth: float | None = None
    with suppress(TimeoutError):
        for _ in range(ATTEMPTS):
            with child(_measure_growth, prepare) as (process, receiving):
                growth = next(messages(receiving, deadline), None)
            if growth is not None or not was_killed(process):
                break
    return nothing() | {"peak_resident_growth_mib": growth}


def _measure_growth(prepare: Callable[[], ArmBuilder], connection: Connection) -> None:
    growth = None
    with suppress(Exception):
        arm_of = prepare()
        gc.collect()
        before = psutil.Process().memory_info().rss
        if _reset_peak():
            _work(arm_of())
            peak = _peak_bytes()
            growth = None if peak is None else (peak - before) / 2**20
    connection.send(growth)


def _work(arm: Arm) -> None:
    with arm.turn():
        arm.run(STEPS)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: makes VmHWM start again from the present size
    except OSError:
        return False
    return True


def _peak_bytes() -> int | None:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else None
