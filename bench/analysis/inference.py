"""What may be said of many intervals together, and of what they could not have seen."""

import math
from collections.abc import Sequence

import numpy as np

from bench.analysis.statistics import CONFIDENCE, Interval

POWER = 0.9


def p_value(interval: Interval, *, null: float = 1.0) -> float | None:
    """Return the two-sided p-value of Student's t against a true ratio `null`; None for a bootstrap over rounds.

    It is below 5 % exactly where the interval leaves `null` out.
    """
    from scipy.special import stdtr

    if interval.log_se is None or interval.df is None:
        return None
    distance = abs(math.log(interval.estimate / null))
    if interval.log_se == 0:
        return 0.0 if distance else 1.0
    return 2 * float(stdtr(interval.df, -distance / interval.log_se))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm (1979), in the order given.

    The chance that any true null hypothesis has an adjusted value of at most 5 % is at most 5 %, however they depend.
    """
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given)
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


def smallest_detectable(sd: float, num_processes: int, *, power: float = POWER) -> float:
    """Return the smallest true difference, relatively, that would be found in `power` of the repeats.

    `sd` is that of the processes' log ratios (`log_se * sqrt(num_processes)` of an interval); found is a 95 % interval
    of that many processes on the right side of 1. Raises ValueError for fewer than 2 processes.
    """
    from scipy.special import nctdtrinc, stdtrit

    if num_processes < 2:
        raise ValueError(f"what can be detected needs at least 2 processes, got {num_processes}")
    df = num_processes - 1
    beyond = stdtrit(df, (1 + CONFIDENCE) / 2)
    distance = float(nctdtrinc(df, 1 - power, beyond)) * sd / math.sqrt(num_processes)
    return math.expm1(distance)
