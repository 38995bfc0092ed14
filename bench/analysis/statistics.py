"""Ratios and their intervals within one process: pure functions of round times.

A ratio is taken within a round, where both arms met the same machine; rounds are what is resampled. Such an interval
knows nothing of the scatter between processes: `bench.analysis.processes` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """An estimate of a ratio with a 95 % interval from `n` rounds, or pairs of runs."""

    estimate: float
    low: float
    high: float
    n: int
    num_processes: int = 1
    """Fresh processes that the rounds are of; an interval of one is blind to the scatter between processes."""
    log_se: float | None = None
    """Standard error of the estimate's logarithm; None for a bootstrap over rounds."""
    df: float | None = None
    """Degrees of freedom of that standard error; None for a bootstrap over rounds."""

    @property
    def half_width(self) -> float:
        """Half the interval's width relative to the estimate."""
        return (self.high - self.low) / 2 / self.estimate

    def over(self, divisor: float) -> "Interval":
        """Return the interval of the ratio over an exact positive number."""
        low, high = self.low / divisor, self.high / divisor
        return replace(self, estimate=self.estimate / divisor, low=low, high=high)


def student_interval(log_estimate: float, log_se: float, df: float, *, n: int, num_processes: int = 1) -> Interval:
    """Return Student's t interval of a ratio from its logarithm, the standard error of that, and degrees of freedom."""
    from scipy.special import stdtrit

    half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * log_se
    estimate, low, high = np.exp(log_estimate + np.array([0.0, -half, half]))
    return Interval(float(estimate), float(low), float(high), n, num_processes, log_se, df)


def satterthwaite(variances: ArrayLike, dfs: ArrayLike) -> float:
    """Return the degrees of freedom of a sum of independent estimates, by Welch and Satterthwaite."""
    squares, degrees = np.asarray(variances, dtype=float), np.asarray(dfs, dtype=float)
    noise = float(np.sum(squares**2 / degrees))
    return float(squares.sum()) ** 2 / noise if noise > 0 else float(degrees.min())


def log_ratios(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithms of the paired ratios numerator[i] / denominator[i]."""
    return np.log(np.asarray(numerator, dtype=float)) - np.log(np.asarray(denominator, dtype=float))


def autocorrelation(values: ArrayLike) -> float:
    """Return the lag-1 autocorrelation of a series in the order measured; 0 for fewer than 3 values or equal ones."""
    series = np.asarray(values, dtype=float)
    centred = series - series.mean() if len(series) else series
    total = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / total if len(series) > 2 and total > 0 else 0.0


def is_autocorrelated(values: ArrayLike) -> bool:
    """Whether the lag-1 autocorrelation is beyond 2/sqrt(n), which an independent series exceeds once in 20 times."""
    return bool(abs(autocorrelation(values)) > 2 / np.sqrt(max(1, len(np.asarray(values)))))


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


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the median of the per-round ratios numerator[i] / denominator[i], with a bootstrap interval."""
    logs = log_ratios(numerator, denominator)
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
    return geometric_mean_over_rounds([[pair] for pair in pairs], seed=seed)


def geometric_mean_over_rounds(cases: Sequence[Sequence[tuple[ArrayLike, ArrayLike]]], *, seed: int = 0) -> Interval:
    """Return the same over cases of several processes each: rounds are resampled within each process, not processes."""
    logs = [[log_ratios(*pair) for pair in case] for case in cases]
    starts = np.cumsum([0, *map(len, logs)])
    draws = [
        np.mean([_log_median_draws(one, RESAMPLES, seed + int(start) + i) for i, one in enumerate(case)], axis=0)
        for start, case in zip(starts, logs, strict=False)
    ]
    estimate = float(np.mean([np.mean([np.median(one) for one in case]) for case in logs]))
    found = _interval(estimate, np.mean(draws, axis=0), min(sum(map(len, case)) for case in logs))
    return replace(found, num_processes=min(map(len, logs)))


def seed_ratio_interval(numerator: ArrayLike, denominator: ArrayLike) -> Interval | None:
    """Return the geometric mean of the ratios of paired runs with different seeds; None for fewer than 2 pairs.

    None too where a number is not above 0, as a student's error or an unbiased distance may be: there is no ratio.

    Student's t on the logarithms: with 3 seeds an interval is as wide as 3 seeds deserve.
    """
    if np.size(numerator) < 2 or np.min([numerator, denominator]) <= 0:
        return None
    logs = log_ratios(numerator, denominator)
    return student_interval(
        float(logs.mean()), float(logs.std(ddof=1) / np.sqrt(len(logs))), len(logs) - 1, n=len(logs)
    )
