"""Where a series of ratios steps from one level to another: binary segmentation, each cut tested.

A cut is tested by the share of the scatter that it explains, at its best place (the likelihood-ratio test for a shift
in the mean of normal values, Worsley, JASA 1979). What that share is by chance is simulated: looking at every place is
then paid for. The logarithms are cut, for a ratio's error is relative. A drift is no step, and comes out as several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01
"""Chance of a cut in a series that has no step."""
SHORTEST = 2
"""Values of the shortest level: one value alone is an outlier."""
RESOLUTION = 1e-4
"""Scatter of a logarithm below which no clock measures: values that agree to this are the same."""
SIMULATED = 4999

Logs = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """A step: the first value of the new level, and the levels, geometric means of the values between two steps."""

    index: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """By how much the level changed, as a share of the old one."""
        return self.after / self.before - 1


def find_steps(ratios: Sequence[float], *, level: float = LEVEL) -> list[Step]:
    """Return the steps of a series of positive ratios, in order; none for fewer than 4 of them.

    `level` is the chance that a series of nothing but normal scatter is cut at all.
    """
    logs = np.log(np.asarray(ratios, dtype=float))
    bounds = [0, *_cuts(logs, 0, level), len(logs)]
    levels = [float(np.exp(logs[start:end].mean())) for start, end in pairwise(bounds) if end > start]
    steps = zip(bounds[1:-1], pairwise(levels), strict=True)
    return [Step(index, before, after) for index, (before, after) in steps]


def _cuts(logs: Logs, offset: int, level: float) -> list[int]:
    """Return where a piece of the series is cut, with its cuts' cuts."""
    if len(logs) < 2 * SHORTEST:
        return []
    shares = _explained(logs[np.newaxis])[0]
    best = int(np.argmax(shares))
    by_chance = _largest_by_chance(len(logs))
    more_extreme = SIMULATED - int(np.searchsorted(by_chance, shares[best], side="left"))
    if (1 + more_extreme) / (1 + SIMULATED) >= level:
        return []
    cut = SHORTEST + best
    return [*_cuts(logs[:cut], offset, level), offset + cut, *_cuts(logs[cut:], offset + cut, level)]


def _explained(series: Logs) -> Logs:
    """Return (series, places): the share of each series' (series, n) sum of squares between the two sides of a cut."""
    n = series.shape[1]
    centred = series - series.mean(axis=1, keepdims=True)
    left = np.arange(SHORTEST, n - SHORTEST + 1)
    sums = np.cumsum(centred, axis=1)[:, left - 1]
    between = sums**2 * n / (left * (n - left))
    total = (centred**2).sum(axis=1, keepdims=True) + n * RESOLUTION**2
    return np.asarray(between / total)


@lru_cache(maxsize=256)
def _largest_by_chance(n: int) -> Logs:
    """Return, in order, the largest shares of series of n normal values without a step."""
    chance = np.random.default_rng(n)
    return np.sort(_explained(chance.standard_normal((SIMULATED, n))).max(axis=1))
