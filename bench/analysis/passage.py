"""How soon a level is reached: a monotone fit of every training's curve, censored ones kept, ratios over paired seeds.

The first passage of a noisy curve comes too early, the earlier the noisier it is; a monotone fit has no such dips.
A training that does not get there within the images it was given counts with all of these (the restricted mean), so
none is left out; a ratio then says too little against the arm to which that happened.
Pure functions of numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bench.analysis.statistics import CONFIDENCE, Interval, satterthwaite, seed_ratio_interval, student_interval

POWER = 0.8


@dataclass(frozen=True)
class Passage:
    """The images after which a training was first as good as a level, by the monotone fit."""

    images: float
    """Where it never was, the images that it was given."""
    reached: bool
    at_first: bool = False
    """Whether its first evaluation was that good already: when it passed is then not known."""


def passage(images: Sequence[float], values: Sequence[float], level: float, horizon: float) -> Passage:
    """Return when the monotone fit of a curve (n,) meets the level, between evaluations on a line.

    The fit is the curve that never rises and is closest by least squares of the logarithms; of values that are not all
    above 0, of the values. It ends at the training's own best, which is what one would keep: what a training loses
    after that makes it no later. Of a curve that begins below the level it is the first evaluation.
    """
    from scipy.optimize import isotonic_regression

    best = int(np.argmin(values)) + 1 if len(values) else 0
    curve = np.asarray([*values[:best], level], dtype=float)
    curve = np.log(curve) if curve.min() > 0 else curve
    fitted, height = isotonic_regression(curve[:-1], increasing=False).x, float(curve[-1])
    (met,) = np.nonzero(fitted <= height)
    if not len(met):
        return Passage(horizon, reached=False)
    after = int(met[0])
    if after == 0:
        return Passage(float(images[0]), reached=True, at_first=True)
    before = after - 1
    share = (fitted[before] - height) / (fitted[before] - fitted[after])
    return Passage(float(images[before] + share * (images[after] - images[before])), reached=True)


def mean_interval(values: ArrayLike) -> Interval | None:
    """Return the mean of positive numbers with Student's t interval of its logarithm; None for fewer than 2."""
    return ratio_of_means(values, np.ones(np.size(values)))


def ratio_of_means(numerator: ArrayLike, denominator: ArrayLike) -> Interval | None:
    """Return the mean of one arm's numbers over that of another's, seeds paired; None for fewer than 2.

    Student's t on the logarithm, whose variance is that of x / mean(x) - y / mean(y) (the delta method). It covers as
    it says from 3 seeds on, where a bootstrap over seeds covers 73 %: tests/bench/analysis/test_passage.py.
    """
    x, y = (np.asarray(values, dtype=float) for values in (numerator, denominator))
    if len(x) < 2:
        return None
    influence = x / x.mean() - y / y.mean()
    log_se = float(influence.std(ddof=1) / np.sqrt(len(x)))
    return student_interval(float(np.log(x.mean() / y.mean())), log_se, len(x) - 1, n=len(x))


def product(*ratios: Interval) -> Interval:
    """Return the product of ratios that were measured independently of each other; see `_combined`."""
    return _combined(ratios, 1.0)


def geometric_mean(ratios: Sequence[Interval]) -> Interval:
    """Return the geometric mean of ratios that were measured independently: of these, not of a population."""
    return _combined(ratios, 1 / len(ratios))


def _combined(ratios: Sequence[Interval], weight: float) -> Interval:
    """Return the weighted sum of the logarithms; degrees of freedom by Welch and Satterthwaite."""
    estimates = np.log([ratio.estimate for ratio in ratios])
    squares, dfs = np.transpose([_log_variance(ratio) for ratio in ratios])
    total = float(squares.sum())
    df = satterthwaite(squares, dfs)
    n, processes = min(ratio.n for ratio in ratios), min(ratio.num_processes for ratio in ratios)
    return student_interval(weight * float(estimates.sum()), weight * total**0.5, df, n=n, num_processes=processes)


def _log_variance(ratio: Interval) -> tuple[float, float]:
    """Return the variance of a ratio's logarithm with its degrees of freedom; of a bootstrap what its width says."""
    if ratio.log_se is None or ratio.df is None:
        from scipy.special import ndtri

        return float(np.log(ratio.high / ratio.low) / (2 * ndtri((1 + CONFIDENCE) / 2))) ** 2, np.inf
    return ratio.log_se**2, ratio.df


def smallest_difference(ratio: Interval) -> float | None:
    """Return the least ratio above 1 that such a study would show, with 80 % power at a level of 5 %, two-sided."""
    from scipy.special import stdtrit

    if ratio.log_se is None or ratio.df is None:
        return None
    quantiles = (float(stdtrit(ratio.df, share)) for share in ((1 + CONFIDENCE) / 2, POWER))
    return float(np.exp(ratio.log_se * sum(quantiles)))


@dataclass(frozen=True)
class Curve:
    """A training's metric over seconds, at its evaluations."""

    seconds: Sequence[float]
    values: Sequence[float]


def ratio_at_equal_seconds(numerator: Sequence[Curve], denominator: Sequence[Curve]) -> Interval | None:
    """Return the geometric mean over logarithmic time of one arm's metric over another's, seeds paired.

    This is the ratio of the areas under the logarithm of the metric, over the seconds that all curves cover; above 1
    the former arm is worse. None for fewer than 2 seeds, and for curves that have no such seconds.
    """
    curves = [*numerator, *denominator]
    if len(numerator) < 2 or not all(curve.values and min(curve.values) > 0 for curve in curves):
        return None
    start, end = max(curve.seconds[0] for curve in curves), min(curve.seconds[-1] for curve in curves)
    if not 0 < start < end:
        return None
    grid = np.geomspace(start, end, 512)
    means = [
        np.exp([np.interp(np.log(grid), np.log(curve.seconds), np.log(curve.values)).mean() for curve in arm])
        for arm in (numerator, denominator)
    ]
    return seed_ratio_interval(*means)
