"""Ratios over fresh processes, which are the unit: rounds of one process share what that process was dealt.

Memory layout, the libraries' choice of kernels and the machine's state are drawn anew for every process, so rounds of
one process say nothing of that scatter. Pure functions of the round times of replicates: one replicate is one process's
paired step times, the baseline's and one-stage's.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.analysis.statistics import (
    Interval,
    geometric_mean_over_rounds,
    log_ratios,
    ratio_interval,
    satterthwaite,
    student_interval,
)

Replicate = tuple[ArrayLike, ArrayLike]


def process_ratio(baseline_ms: ArrayLike, mine_ms: ArrayLike) -> float:
    """Return one process's log ratio: the median of the log ratios of its rounds.

    The pairing takes out drift, which the ratio of the medians does not; without drift the two scatter alike.
    """
    return float(np.median(log_ratios(baseline_ms, mine_ms)))


def ratio_over_processes(replicates: Sequence[Replicate], *, first_stage: int | None = None) -> Interval:
    """Return the baseline's time over one-stage's with an interval over processes: Student's t on their log ratios.

    The scatter of those contains what the rounds of each leave. `first_stage` is the number of processes that were
    certain to run (`Timing.replicates`; None: all). Their variance decided whether to run more, so it alone is used,
    with its degrees of freedom: the coverage is then exact in spite of the stopping (Stein's two stages, 1945).
    One replicate gives the bootstrap over its rounds, `num_processes` 1. Raises ValueError for none, or for a first
    stage of one with more to follow.
    """
    if not replicates:
        raise ValueError("a ratio over processes needs at least 1 replicate, got none")
    if len(replicates) == 1:
        return ratio_interval(*replicates[0])
    logs = _process_ratios(replicates)
    square, df = _mean_variance(logs, first_stage)
    return student_interval(
        float(logs.mean()), float(np.sqrt(square)), df, n=_num_rounds(replicates), num_processes=len(logs)
    )


def geometric_mean_over_processes(cases: Sequence[Sequence[Replicate]], *, first_stage: int | None = None) -> Interval:
    """Return the geometric mean over cases, of the measurement of these cases, with an interval over processes.

    Processes of different cases are independent, so the variances of their means add up; the degrees of freedom are
    Welch and Satterthwaite's. `num_processes` is the least of a case, `n` the fewest rounds. If a case has one process
    only, its scatter is unknown: the interval is then a bootstrap over the rounds within each process, and
    `num_processes` 1 says that it is blind to the scatter between processes. Raises ValueError without a case or
    without replicates of one.
    """
    if not cases or not all(cases):
        raise ValueError("a mean over cases needs at least 1 case and 1 replicate of each")
    if any(len(case) == 1 for case in cases):
        return geometric_mean_over_rounds(cases)
    logs = [_process_ratios(case) for case in cases]
    squares, dfs = np.transpose([_mean_variance(case, first_stage) for case in logs])
    total = float(squares.sum())
    return student_interval(
        float(np.mean([case.mean() for case in logs])),
        float(np.sqrt(total)) / len(logs),
        satterthwaite(squares, dfs),
        n=min(map(_num_rounds, cases)),
        num_processes=min(map(len, logs)),
    )


def enough(intervals: Sequence[Interval], *, target_half_width: float, replicates: int, max_replicates: int) -> bool:
    """Whether a case needs no further process: after each, give the intervals of all its ratios so far.

    True from `replicates` processes on, as soon as every interval is within the target, at the latest at
    `max_replicates`; at once where no ratio could be taken. The intervals are those of `ratio_over_processes` with
    `first_stage=replicates`: their width is then settled by the first stage, which keeps the coverage what it says.
    """
    done = max((interval.num_processes for interval in intervals), default=max_replicates)
    narrow = all(interval.half_width <= target_half_width for interval in intervals)
    return done >= max_replicates or (done >= replicates and narrow)


def _process_ratios(replicates: Sequence[Replicate]) -> NDArray[np.float64]:
    return np.array([process_ratio(*replicate) for replicate in replicates])


def _mean_variance(logs: NDArray[np.float64], first_stage: int | None) -> tuple[float, int]:
    """Return the variance of the mean of the processes' log ratios, and its degrees of freedom."""
    first = logs[:first_stage]
    if len(first) < 2:
        raise ValueError(f"an interval over processes needs a first stage of at least 2, got {len(first)}")
    return float(first.var(ddof=1)) / len(logs), len(first) - 1


def _num_rounds(replicates: Sequence[Replicate]) -> int:
    return sum(np.size(mine_ms) for _, mine_ms in replicates)
