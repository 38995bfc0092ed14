"""Paired, interleaved timing (compare pyperf and "rounds" of A/B tests): arms take turns, in random order, in rounds.

Nothing here knows a network: an arm is anything that takes a number of steps. The timer, which owns the clock and the
fence, is injected; so are the order and the rule that ends the rounds.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch

from bench.analysis.statistics import ratio_interval
from osgan.clock import clock_of


@dataclass(frozen=True)
class Elapsed:
    """Time that some work took; the last two are None where the device does its work before the call returns."""

    wall_ms: float
    device_ms: float | None = None
    """Between CUDA events around the work."""
    host_ms: float | None = None
    """Until the host had issued the work; close to `wall_ms` when the device waits for the host."""

    def per_step(self, steps: int) -> "Elapsed":
        """Return the times of one of `steps` equal steps."""
        device_ms = None if self.device_ms is None else self.device_ms / steps
        host_ms = None if self.host_ms is None else self.host_ms / steps
        return Elapsed(self.wall_ms / steps, device_ms, host_ms)


class Timer(Protocol):
    """Times work from a fence to a fence."""

    def time(self, work: Callable[[], None]) -> Elapsed:
        """Do the work and return how long it took."""


@dataclass(frozen=True)
class WallTimer:
    """The wall clock, for devices whose work is done when the call returns."""

    clock: Callable[[], float] = time.perf_counter

    def time(self, work: Callable[[], None]) -> Elapsed:
        """Do the work between two readings of the clock."""
        start = self.clock()
        work()
        return Elapsed((self.clock() - start) * 1e3)


@dataclass(frozen=True)
class CudaTimer:
    """CUDA events around the work, and the wall clock around the same work with a fence on both sides."""

    device: torch.device
    clock: Callable[[], float] = time.perf_counter

    def time(self, work: Callable[[], None]) -> Elapsed:
        """Do the work; its end is waited for after the second event."""
        mark, elapsed_ms = clock_of(self.device)
        torch.cuda.synchronize(self.device)
        start = self.clock()
        first = mark()
        work()
        second = mark()
        issued = self.clock()
        torch.cuda.synchronize(self.device)
        return Elapsed((self.clock() - start) * 1e3, elapsed_ms(first, second), (issued - start) * 1e3)


def timer_for(device: torch.device) -> Timer:
    """Return the timer of a device."""
    return CudaTimer(device) if device.type == "cuda" else WallTimer()


class Arm(Protocol):
    """What is timed."""

    def run(self, steps: int) -> None:
        """Take that many steps; the only thing inside the timed region."""

    def turn(self) -> AbstractContextManager[None]:
        """Context of one visit, entered and left outside the timed region: random state, checks of the outcome."""


@dataclass
class Rounds:
    """Times a step of every arm, one entry a round; arms that failed have no further entries."""

    steps: int
    times: dict[str, list[Elapsed]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    order: list[list[str]] = field(default_factory=list)
    ended_by: str = ""

    @property
    def spent_s(self) -> float:
        """Seconds of timed steps so far, of all arms."""
        return self.steps * sum(sum(self.wall_ms(arm)) for arm in self.times) / 1e3

    def wall_ms(self, arm: str) -> list[float]:
        """Return the wall-clock milliseconds a step, round by round."""
        return [elapsed.wall_ms for elapsed in self.times[arm]]

    def device_clocks(self, arm: str) -> dict[str, list[float] | None]:
        """Return `device_ms` and `host_ms` a step, round by round; None where there is no device clock."""
        clocks: dict[str, list[float] | None] = {}
        for name in ("device_ms", "host_ms"):
            values = [getattr(elapsed, name) for elapsed in self.times[arm]]
            clocks[name] = None if None in values else values
        return clocks


def warm_up(
    arm: Arm, timer: Timer, *, budget_s: float, window: int = 5, tolerance: float = 0.1
) -> tuple[list[float], bool]:
    """Step until the median time of the last `window` steps is within `tolerance` of the median of those before.

    Returns the milliseconds of every step and whether it became steady before the budget was spent.
    """
    steps_ms: list[float] = []
    while True:
        steps_ms.append(_visit(arm, timer, 1).wall_ms)
        if len(steps_ms) >= 2 * window:
            before = statistics.median(steps_ms[-2 * window : -window])
            last = statistics.median(steps_ms[-window:])
            if abs(last - before) <= tolerance * before:
                return steps_ms, True
            if sum(steps_ms) >= budget_s * 1e3:
                return steps_ms, False


def interleave(
    arms: Mapping[str, Arm],
    timer: Timer,
    *,
    steps: int,
    order: random.Random,
    finished: Callable[["Rounds"], str | None],
) -> Iterator[Rounds]:
    """Visit every arm once a round, in random order, `steps` steps a visit, until `finished` gives the reason to end.

    Yields the rounds so far after each round. An arm that raises is out from then on, its reason recorded.
    """
    rounds = Rounds(steps, {name: [] for name in arms})
    while True:
        alive = [name for name in arms if name not in rounds.failures]
        if not alive:
            rounds.ended_by = "every arm failed"
            return
        order.shuffle(alive)
        for name in alive:
            try:
                elapsed = _visit(arms[name], timer, steps)
            except Exception as error:
                rounds.failures[name] = named(error)
                continue
            rounds.times[name].append(elapsed.per_step(steps))
        rounds.order.append(alive)
        if reason := finished(rounds):
            rounds.ended_by = reason
        yield rounds
        if rounds.ended_by:
            return


@dataclass(frozen=True)
class Finish:
    """Ends the rounds when every ratio is known well enough or the time is spent, whichever comes first."""

    reference: str
    target_half_width: float
    min_rounds: int
    budget_s: float
    check_every: int = 5

    def __call__(self, rounds: Rounds) -> str | None:
        """Return which of the two ends the rounds, None to go on."""
        num_rounds = len(rounds.order)
        if num_rounds < self.min_rounds:
            return None
        if rounds.spent_s >= self.budget_s:
            return "budget_s"
        if num_rounds % self.check_every:
            return None
        alive = [name for name in rounds.times if name not in rounds.failures]
        if self.reference not in alive or len(alive) < 2:
            return None
        mine = rounds.wall_ms(self.reference)
        intervals = (
            ratio_interval(rounds.wall_ms(name), mine, resamples=500) for name in alive if name != self.reference
        )
        return "target_half_width" if all(i.half_width <= self.target_half_width for i in intervals) else None


def named(error: Exception) -> str:
    """Return an error as a record gives it: its kind and its message."""
    return f"{type(error).__name__}: {error}"


def _visit(arm: Arm, timer: Timer, steps: int) -> Elapsed:
    with arm.turn():
        return timer.time(lambda: arm.run(steps))
