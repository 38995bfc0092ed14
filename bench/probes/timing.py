"""Paired, interleaved timing (compare pyperf and "rounds" of A/B tests): arms take turns, in balanced order, in rounds.

Nothing here knows a network: an arm is anything that takes a number of steps. The timer, which owns the clock and the
fence, is injected; so are the randomness of the order and the rule that ends the rounds.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """Times a step of every arm, one entry a counted round; arms that failed have no further entries."""

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


def preheat(arms: Mapping[str, Arm], timer: Timer, seconds: float, *, steps: int = 1) -> float:
    """Run the arms in turns, `steps` a visit, until their work took that many seconds: no time of it is kept.

    Brings the device to the heat and clocks of the rounds to come. Returns the seconds it took. An arm that raises
    takes no further turn here; the rounds meet its error and record it.
    """
    alive = dict(arms)
    spent_ms = 0.0
    while alive:
        for name in list(alive):
            if spent_ms >= seconds * 1e3:
                return spent_ms / 1e3
            try:
                spent_ms += _visit(alive[name], timer, steps).wall_ms
            except Exception:
                del alive[name]
    return spent_ms / 1e3


def balanced_orders(names: Sequence[str], randomness: random.Random) -> Iterator[list[str]]:
    """Yield orders of a round, without end, by a Williams design (1949); every square draws its names and rows anew.

    Over a square, which is as many rounds as arms, or twice as many if their number is odd, every arm has every place
    and directly follows every other arm equally often: what an arm leaves behind, in caches, clocks and heat, cancels.
    """
    rows = _williams(len(names))
    while True:
        labels = randomness.sample(names, len(names))
        for row in randomness.sample(rows, len(rows)):
            yield [labels[place] for place in row]


def _williams(n: int) -> list[list[int]]:
    """Return the rows of a Williams square of n treatments; for an odd n followed by their mirror images."""
    zigzag = [(place + 1) // 2 if place % 2 else (n - place // 2) % n for place in range(n)]
    square = [[(start + shift) % n for start in zigzag] for shift in range(n)]
    return square + [row[::-1] for row in square] if n % 2 else square


def interleave(
    arms: Mapping[str, Arm],
    timer: Timer,
    *,
    steps: int,
    order: random.Random,
    finished: Callable[["Rounds"], str | None],
) -> Iterator[Rounds]:
    """Visit every arm once a round, in balanced order, `steps` steps a visit, until `finished` gives the reason to end.

    The first round is measured and dropped: its times are not in `Rounds.times`, its order not in `Rounds.order`, its
    seconds are not spent, and `finished` is not asked after it. Yields the rounds so far after each round, the dropped
    one too. An arm that raises is out from then on, its reason recorded, and the others keep the order of the design.
    """
    rounds = Rounds(steps, {name: [] for name in arms})
    _round(rounds, arms, timer, list(arms))
    yield rounds
    for names in balanced_orders(list(arms), order):
        alive = [name for name in names if name not in rounds.failures]
        if not alive:
            rounds.ended_by = "every arm failed"
            return
        for name, elapsed in _round(rounds, arms, timer, alive).items():
            rounds.times[name].append(elapsed.per_step(steps))
        rounds.order.append(alive)
        if reason := finished(rounds):
            rounds.ended_by = reason
        yield rounds
        if rounds.ended_by:
            return


def _round(rounds: Rounds, arms: Mapping[str, Arm], timer: Timer, names: Sequence[str]) -> dict[str, Elapsed]:
    """Visit the arms named and return their times; those that raise are recorded as failed."""
    found: dict[str, Elapsed] = {}
    for name in names:
        try:
            found[name] = _visit(arms[name], timer, rounds.steps)
        except Exception as error:
            rounds.failures[name] = named(error)
    return found


@dataclass(frozen=True)
class Finish:
    """Ends a process's rounds when every ratio is known well enough there or the time is spent, the earlier of both."""

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
