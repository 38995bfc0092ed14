"""Ratios and their intervals: pure functions of round times.

A ratio is taken within a round, where both arms met the same machine; rounds are what is resampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """An estimate with a 95 % interval from `n` rounds."""

    estimate: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's width relative to the estimate."""
        return (self.high - self.low) / 2 / self.estimate


def _log_median_draws(log_ratios: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return bootstrap draws of the median of the log ratios."""
    from scipy.stats import bootstrap  # half a second, which a command that only says how it is used does not have

    result = bootstrap(
        (log_ratios,),
        np.median,
        n_resamples=resamples,
        method="percentile",
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(seed),
        batch=1000,
    )
    return np.asarray(result.bootstrap_distribution)


def _interval(log_estimate: float, draws: NDArray[np.float64], n: int) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.exp(np.quantile(draws, [tail, 1 - tail]))
    return Interval(float(np.exp(log_estimate)), float(low), float(high), n)


def _log_ratios(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    return np.log(np.asarray(numerator, dtype=float)) - np.log(np.asarray(denominator, dtype=float))


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the median of the per-round ratios numerator[i] / denominator[i], with a bootstrap interval."""
    logs = _log_ratios(numerator, denominator)
    if len(logs) < 2:
        raise ValueError(f"a ratio's interval needs at least 2 rounds, got {len(logs)}")
    return _interval(float(np.median(logs)), _log_median_draws(logs, resamples, seed), len(logs))


def unpaired_ratio_interval(numerator: ArrayLike, denominator: ArrayLike, *, seed: int = 0) -> Interval:
    """Return the ratio of the medians of two cases' rounds, which had no round in common and are resampled apart."""
    logs = [np.log(np.asarray(times, dtype=float)) for times in (numerator, denominator)]
    if (n := min(map(len, logs))) < 2:
        raise ValueError(f"a ratio's interval needs at least 2 rounds, got {n}")
    over, under = (_log_median_draws(case, RESAMPLES, seed + index) for index, case in enumerate(logs))
    return _interval(float(np.median(logs[0]) - np.median(logs[1])), over - under, n)


def geometric_mean_interval(pairs: Sequence[tuple[ArrayLike, ArrayLike]], *, seed: int = 0) -> Interval:
    """Return the geometric mean over cases of the median ratios; rounds are resampled within each case.

    The interval is that of the measurement of these cases, not of a population that the cases were drawn from.
    """
    logs = [_log_ratios(numerator, denominator) for numerator, denominator in pairs]
    draws = [_log_median_draws(case, RESAMPLES, seed + index) for index, case in enumerate(logs)]
    estimate = float(np.mean([np.median(case) for case in logs]))
    return _interval(estimate, np.mean(draws, axis=0), min(len(case) for case in logs))


def seed_ratio_interval(numerator: ArrayLike, denominator: ArrayLike) -> Interval | None:
    """Return the geometric mean of the ratios of paired runs with different seeds; None for fewer than 2 pairs.

    None too where a number is not above 0, as a student's error or an unbiased distance may be: there is no ratio.

    Student's t on the logarithms: with 3 seeds an interval is as wide as 3 seeds deserve.
    """
    if np.size(numerator) < 2 or np.min([numerator, denominator]) <= 0:
        return None
    from scipy.stats import t

    logs = _log_ratios(numerator, denominator)
    half = t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    estimate, low, high = np.exp(logs.mean() + np.array([0.0, -half, half]))
    return Interval(float(estimate), float(low), float(high), len(logs))
