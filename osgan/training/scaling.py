"""What a step would take on many GPUs: a model of data-parallel training, from a step measured on one.

Every process takes a step on a batch of its own and DistributedDataParallel reduces G's and D's gradients once an
update, in buckets, while the backward pass that makes them goes on. So a step takes what it takes on one GPU, and what
of the reductions is not hidden. docs/scaling.md states the assumptions and how they held. No process is started here.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from osgan.clock import clock_of, synchronize
from osgan.errors import InputError
from osgan.training.loop import Loop

FIRST_BUCKET_BYTES = 2**20
BUCKET_BYTES = 25 * 2**20
"""DistributedDataParallel's defaults: a small first bucket, so that the first reduction starts early."""


@dataclass(frozen=True)
class Interconnect:
    """Data-parallel processes, a GPU each, and what joins them.

    `bandwidth` is the bus bandwidth of an all-reduce in GB/s (10^9 bytes), as nccl-tests prints it: n bytes on N GPUs
    take 2 (N - 1) / N * n / bandwidth. `latency_us` is that of one message; a reduction waits for log2(N) of them on
    the way up a tree and as many on the way down. Raises InputError for what is not positive.
    """

    gpus: int
    bandwidth: float
    latency_us: float = 5.0

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise InputError(f"the number of GPUs must be 1 or more, got {self.gpus}")
        if not 0 < self.bandwidth < math.inf:
            raise InputError(f"the bandwidth must be above 0 GB/s, got {self.bandwidth}")
        if not 0 <= self.latency_us < math.inf:
            raise InputError(f"the latency must be 0 microseconds or more, got {self.latency_us}")

    def reduce_ms(self, num_bytes: int) -> float:
        """Return the milliseconds that one all-reduce of so many bytes takes."""
        if self.gpus == 1:
            return 0.0
        transfer_s = 2 * (self.gpus - 1) / self.gpus * num_bytes / (self.bandwidth * 1e9)
        return 1e3 * transfer_s + 2 * math.log2(self.gpus) * self.latency_us / 1e3


@dataclass(frozen=True)
class Reduction:
    """One backward pass whose gradients are reduced: when each was ready, in order, and its bytes."""

    ready_ms: tuple[float, ...]
    """Since the first of them."""
    num_bytes: tuple[int, ...]

    def buckets(self) -> list[tuple[float, int]]:
        """Return (ready, bytes) of DistributedDataParallel's buckets, which hold gradients in order of readiness."""
        buckets, size, limit = [], 0, FIRST_BUCKET_BYTES
        for ready, num_bytes in zip(self.ready_ms, self.num_bytes, strict=True):
            size += num_bytes
            if size >= limit:
                buckets.append((ready, size))
                size, limit = 0, BUCKET_BYTES
        return [*buckets, (self.ready_ms[-1], size)] if size else buckets

    def exposed_ms(self, interconnect: Interconnect) -> float:
        """Return what the reductions, one after the other, take beyond the end of the backward pass."""
        free = 0.0
        for ready, num_bytes in self.buckets():
            free = max(free, ready) + interconnect.reduce_ms(num_bytes)
        return free - self.ready_ms[-1]


@dataclass(frozen=True)
class Timeline:
    """A step on one GPU: its milliseconds, and the backward passes whose gradients data-parallel training reduces."""

    step_ms: float
    reductions: tuple[Reduction, ...]

    @property
    def reduced_bytes(self) -> int:
        """Bytes of gradients that every process gives to be reduced in a step."""
        return sum(sum(reduction.num_bytes) for reduction in self.reductions)

    def step_ms_on(self, interconnect: Interconnect) -> float:
        """Return the expected milliseconds of a step, a batch of its own on every GPU."""
        return self.step_ms + sum(reduction.exposed_ms(interconnect) for reduction in self.reductions)


def measure_timelines(loops: dict[str, Loop], *, rounds: int = 10, round_ms: float = 100.0) -> dict[str, Timeline]:
    """Time the loops' steps in turns, and note when gradients are ready in steps of their own, all in this process.

    The loops train on meanwhile. They must not be distributed (`osgan.distribute`).
    """
    steps = {}
    for name, loop in loops.items():
        _timed(loop, 2)  # what is allocated or searched for at first
        steps[name] = max(1, math.ceil(round_ms / _timed(loop, 1)))
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            times[name].append(_timed(loop, steps[name]) / steps[name])
    return {name: Timeline(median(times[name]), _reductions(loop, rounds)) for name, loop in loops.items()}


def _timed(loop: Loop, steps: int) -> float:
    """Return the milliseconds of so many steps together."""
    synchronize(loop.device)
    start = time.perf_counter()
    for _ in range(steps):
        loop.step()
    synchronize(loop.device)
    return 1e3 * (time.perf_counter() - start)


def _reductions(loop: Loop, steps: int) -> tuple[Reduction, ...]:
    """Return the step's backward passes that end in an optimizer's step, each the median of so many steps."""
    found = [_marked_step(loop) for _ in range(steps)]
    return tuple(_median_reduction(passes) for passes in zip(*found, strict=True))


def _marked_step(loop: Loop) -> list[Reduction]:
    """Take a step and note when each gradient was last added to before its optimizer used it.

    Before that they are of penalties, and what two-stage training computes of D in G's update and throws away.
    """
    mark, elapsed_ms = clock_of(loop.device)
    marks: dict[nn.Parameter, Any] = {}
    passes: list[list[tuple[Any, int]]] = []

    def ready(parameter: Tensor) -> None:
        marks[parameter] = mark()  # type: ignore[index]

    def updated(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight in marks]
        passes.append([(marks.pop(weight), weight.numel() * weight.element_size()) for weight in weights])

    scheme = loop.scheme
    weights = [w for network in (scheme.generator, scheme.discriminator) for w in network.parameters()]
    handles = [weight.register_post_accumulate_grad_hook(ready) for weight in weights if weight.requires_grad]
    handles += [optimizer.register_step_pre_hook(updated) for optimizer in loop.optimizers]
    try:
        with loop.plain():
            scheme.update(*loop.draw())
            scheme.num_steps += 1
    finally:
        for handle in handles:
            handle.remove()
    synchronize(loop.device)
    return [_reduction(marked, elapsed_ms) for marked in passes]


def _reduction(marked: Sequence[tuple[Any, int]], elapsed_ms: Callable[[Any, Any], float]) -> Reduction:
    first = marked[0][0]
    after = sorted((elapsed_ms(first, mark), num_bytes) for mark, num_bytes in marked)
    start = after[0][0]
    return Reduction(tuple(ms - start for ms, _ in after), tuple(num_bytes for _, num_bytes in after))


def _median_reduction(passes: Sequence[Reduction]) -> Reduction:
    """The order in which gradients are ready is that of the first pass; the times are medians."""
    ready = (median(times) for times in zip(*(one.ready_ms for one in passes), strict=True))
    return Reduction(tuple(ready), passes[0].num_bytes)
