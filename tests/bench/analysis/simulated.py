"""Simulated processes: each is dealt an effect of its own, which all its rounds share."""

import math

import numpy as np

from bench.analysis.processes import Replicate
from bench.analysis.statistics import Interval, log_ratios, student_interval

REPEATS = 2000
MONTE_CARLO = 3 * math.sqrt(0.95 * 0.05 / REPEATS)
"""Three standard errors of a coverage of 95 % from so many repeats: 1.5 %."""


def repeats(
    rng: np.random.Generator, *, processes: int, sd: float, ratio: float = 1.0, rounds: int = 20, noise: float = 0.02
) -> list[list[Replicate]]:
    """Return that many replicates of a case in each of the repeats, the rounds with 2 % of stalls in either arm."""
    shape = (REPEATS, processes, rounds)
    times = [np.exp(noise * rng.normal(size=shape)) * np.where(rng.random(shape) < 0.02, 3.0, 1.0) for _ in range(2)]
    effects = ratio * np.exp(sd * rng.normal(size=(REPEATS, processes, 1)))
    return [list(zip(baseline, mine, strict=True)) for baseline, mine in zip(effects * times[0], times[1], strict=True)]


def blind(replicates: list[Replicate]) -> Interval:
    """Return what is wrong: an interval that takes the rounds of all processes for independent."""
    logs = np.concatenate([log_ratios(*replicate) for replicate in replicates])
    median = float(np.median(logs))
    sd = 1.4826 * float(np.median(np.abs(logs - median)))
    return student_interval(median, math.sqrt(math.pi / 2 / len(logs)) * sd, len(logs) - 1, n=len(logs))


def coverage(intervals: list[Interval], truth: float = 1.0) -> float:
    """Return the share of the intervals that hold the truth."""
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))
