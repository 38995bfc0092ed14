"""What reductions cost, measured in all processes at once: a step without them, and what joins the processes."""

import math
import time
from statistics import median

import torch
import torch.distributed as dist
from torch import Tensor

from osgan.clock import synchronize
from osgan.training.loop import Loop
from osgan.training.scaling import Interconnect, Timeline, measure_timelines

REDUCTIONS = 20
LARGE_BYTES = 2**24
TIMELINE_ROUNDS = 5
ROUND_MS = 50.0


def measure_timeline(loop: Loop) -> Timeline:
    """Time a loop's step in this process without its reductions, and note when its gradients are ready."""
    with loop.plain():
        return measure_timelines({"": loop}, rounds=TIMELINE_ROUNDS, round_ms=ROUND_MS)[""]


def measure_interconnect(device: torch.device) -> Interconnect:
    """Time all-reduces of one number and of many, in all processes at once."""
    size = dist.get_world_size()
    small_ms, large_ms = (_reduce_ms(torch.zeros(n, device=device)) for n in (1, LARGE_BYTES // 4))
    transfer_s = max(large_ms - small_ms, large_ms / 2) / 1e3  # noise may make the small one slow
    bandwidth = 2 * (size - 1) / size * LARGE_BYTES / transfer_s / 1e9
    return Interconnect(size, bandwidth, 1e3 * small_ms / (2 * math.log2(size)))


def _reduce_ms(tensor: Tensor) -> float:
    times = []
    for _ in range(REDUCTIONS):
        dist.barrier()
        synchronize(tensor.device)
        start = time.perf_counter()
        dist.all_reduce(tensor)
        synchronize(tensor.device)
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)
