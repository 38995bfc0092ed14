"""When a curve passes a level, and whether the intervals of the ratios cover what they say."""

import math

import numpy as np
import pytest
from scipy.stats import t

from bench.analysis.passage import (
    POWER,
    Curve,
    Passage,
    geometric_mean,
    passage,
    product,
    ratio_at_equal_seconds,
    ratio_of_means,
    smallest_difference,
)
from bench.analysis.statistics import Interval, student_interval

IMAGES = [100, 200, 300, 400]


@pytest.mark.parametrize(
    ("level", "images"), [(100, 100), (120, 100), (50, 200), (25, 300), (50 / math.sqrt(2), 250), (12.5, 400)]
)
def test_between_evaluations_the_logarithm_is_a_line(level, images):
    found = passage(IMAGES, [100, 50, 25, 12.5], level, 400)
    assert (found.reached, found.at_first) == (True, level >= 100)
    assert found.images == pytest.approx(images)


def test_what_is_not_reached_counts_with_the_images_given():
    assert passage(IMAGES, [100, 50, 25, 12.5], 12, 400) == Passage(400, reached=False)
    assert passage([], [], 1e9, 400) == Passage(400, reached=False)
    assert passage([100], [50], 40, 400) == Passage(400, reached=False)  # one that failed on its way


def test_a_dip_of_a_noisy_curve_is_no_passage():
    # The fit takes 40 and 160 together: 80. Its first passage of 45 would be at 200 images.
    values = [100, 40, 160, 20]
    assert passage(IMAGES, values, 45, 400).images > 300
    assert passage(IMAGES, values, 80, 400).images == pytest.approx(200)


def test_what_a_training_loses_after_its_best_makes_it_no_later():
    assert passage(IMAGES, [100, 50, 90, 200], 60, 400).images == passage(IMAGES[:2], [100, 50], 60, 400).images < 200


def test_of_a_metric_that_can_be_0_the_line_is_that_of_the_values():
    assert passage(IMAGES, [3, 1, 0, -1], 0.5, 400).images == pytest.approx(250)


def test_the_noise_of_the_curve_moves_the_passage_little():
    rng = np.random.default_rng(0)
    images = np.arange(1, 81) * 2.0
    truth = 1000 * np.exp(-images / 80)
    level = 1000 * math.exp(-1)  # after 80 images
    noisy = truth * np.exp(rng.normal(0, 0.15, (500, 80)))
    found = [passage(images, curve, level, 160).images for curve in noisy]
    first = [images[np.nonzero(curve <= level)[0][0]] for curve in noisy]
    assert np.mean(found) == pytest.approx(80, abs=3)
    assert np.mean(first) < 70  # the broken version: a first passage comes too early


def test_the_ratio_of_means_by_hand():
    x, y = [100.0, 120.0, 140.0], [60.0, 60.0, 90.0]
    found = ratio_of_means(x, y)
    influence = [a / 120 - b / 70 for a, b in zip(x, y, strict=True)]
    mean = sum(influence) / 3
    se = math.sqrt(sum((z - mean) ** 2 for z in influence) / 2 / 3)
    assert found.estimate == pytest.approx(120 / 70)
    assert found.high == pytest.approx(120 / 70 * math.exp(t.ppf(0.975, 2) * se))
    assert found.n == 3
    assert ratio_of_means([1.0], [2.0]) is None


def bootstrap(x, y, rng):
    """Return a percentile interval over paired seeds: the broken version."""
    drawn = rng.integers(len(x), size=(999, len(x)))
    return np.quantile(x[drawn].mean(axis=1) / y[drawn].mean(axis=1), [0.025, 0.975])


def coverage(n, spread, cut_off, interval, trials=1500):
    """Return how often an interval holds the ratio of the means of two arms whose seeds have something in common."""
    rng = np.random.default_rng(n)

    def draw(size):
        common = rng.normal(0, spread, size)
        logs = [math.log(mean) + common + rng.normal(0, spread, size) for mean in (100, 80)]
        return [np.minimum(np.exp(arm), cut_off) for arm in logs]

    truth = np.divide(*(arm.mean() for arm in draw(400_000)))
    found = [interval(*draw(n), rng) for _ in range(trials)]
    return np.mean([low <= truth <= high for low, high in found])


def student(x, y, rng):
    found = ratio_of_means(x, y)
    return found.low, found.high


@pytest.mark.parametrize("cut_off", [math.inf, 120])
@pytest.mark.parametrize("spread", [0.1, 0.3])
@pytest.mark.parametrize("n", [3, 8])
def test_the_interval_covers_as_it_says(n, spread, cut_off):
    assert 0.92 <= coverage(n, spread, cut_off, student) <= 0.98


def test_a_bootstrap_over_three_seeds_does_not():
    assert coverage(3, 0.3, math.inf, bootstrap, trials=400) < 0.85


def test_independent_ratios_multiply_and_their_variances_add():
    one, other = student_interval(math.log(2), 0.03, 7, n=8), student_interval(math.log(3), 0.04, 2, n=9)
    found = product(one, other)
    assert found.estimate == pytest.approx(6)
    assert found.log_se == pytest.approx(0.05)
    assert found.df == pytest.approx(0.05**4 / (0.03**4 / 7 + 0.04**4 / 2))
    mean = geometric_mean([one, other])
    assert (mean.estimate, mean.log_se, mean.n) == (pytest.approx(6**0.5), pytest.approx(0.025), 8)


def test_a_bootstrap_counts_with_its_width():
    rounds = Interval(2.0, 2.0 * math.exp(-0.196), 2.0 * math.exp(0.196), 20)
    assert product(rounds).log_se == pytest.approx(0.1, rel=1e-3)


def test_the_smallest_difference_is_shown_four_times_in_five():
    n, spread = 8, 0.2
    least = smallest_difference(student_interval(0.0, spread / math.sqrt(n), n - 1, n=n))
    rng = np.random.default_rng(1)
    logs = rng.normal(math.log(least), spread, (4000, n))
    half = t.ppf(0.975, n - 1) * logs.std(axis=1, ddof=1) / math.sqrt(n)
    assert np.mean(logs.mean(axis=1) - half > 0) == pytest.approx(POWER, abs=0.03)
    assert smallest_difference(Interval(1.0, 0.9, 1.1, 20)) is None


def test_the_distance_at_equal_seconds_by_hand():
    # Both fall as 1/seconds; the one is twice as good at any second, its evaluations half as far apart.
    slow = [Curve([10, 20, 40, 80], [80, 40, 20, 10]), Curve([10, 20, 40, 80], [88, 44, 22, 11])]
    fast = [Curve([5, 10, 20, 40], [80, 40, 20, 10]), Curve([5, 10, 20, 40], [80, 40, 20, 10])]
    found = ratio_at_equal_seconds(slow, fast)
    assert found.estimate == pytest.approx(2 * math.sqrt(1.1))
    assert ratio_at_equal_seconds(slow[:1], fast[:1]) is None
    assert ratio_at_equal_seconds(slow, [Curve([90, 99], [1, 1])] * 2) is None
    assert ratio_at_equal_seconds(slow, [Curve([], [])] * 2) is None
