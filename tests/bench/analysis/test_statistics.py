import math
import subprocess
import sys

import numpy as np
import pytest

from bench.analysis.statistics import (
    Interval,
    autocorrelation,
    geometric_mean_interval,
    is_autocorrelated,
    ratio_interval,
    seed_ratio_interval,
    unpaired_ratio_interval,
)


def test_equal_rounds_give_the_exact_ratio():
    found = ratio_interval([3.0, 6.0, 9.0], [2.0, 4.0, 6.0])
    assert (found.estimate, found.low, found.high, found.n) == pytest.approx((1.5, 1.5, 1.5, 3))
    assert found.half_width == pytest.approx(0.0, abs=1e-12)


def test_ratios_are_paired_within_rounds():
    drift = np.linspace(1, 10, 30)  # a machine that slows down tenfold changes no ratio
    found = ratio_interval(1.2 * drift, drift)
    assert (found.low, found.high) == pytest.approx((1.2, 1.2))


def test_the_median_ignores_a_stalled_round():
    numerator = np.full(21, 1.3)
    numerator[4] = 100.0
    assert ratio_interval(numerator, np.ones(21)).estimate == pytest.approx(1.3)


def test_geometric_mean_weighs_cases_equally():
    found = geometric_mean_interval([([2.0] * 5, [1.0] * 5), ([1.0] * 50, [2.0] * 50), ([8.0] * 5, [1.0] * 5)])
    assert found.estimate == pytest.approx(2.0)
    assert found.n == 5


def test_unpaired_rounds_may_differ_in_number_and_order():
    found = unpaired_ratio_interval([3.0, 3.0, 3.0, 3.0], [2.0, 2.0])
    assert (found.estimate, found.low, found.high, found.n) == pytest.approx((1.5, 1.5, 1.5, 2))
    drift = np.linspace(1, 2, 30)  # of no matter within a round, but these have none in common
    assert unpaired_ratio_interval(1.2 * drift, drift).half_width > 0.1
    with pytest.raises(ValueError, match="at least 2 rounds"):
        unpaired_ratio_interval([1.0], [1.0, 1.0])


def test_an_unpaired_interval_covers_what_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = unpaired_ratio_interval(1.1 * np.exp(0.03 * rng.normal(size=30)), np.exp(0.03 * rng.normal(size=20)))
        held += found.low <= 1.1 <= found.high
    assert 0.90 <= held / 200 <= 0.995


def test_one_round_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 rounds"):
        ratio_interval([1.0], [1.0])


def _draws(rng: np.random.Generator, rounds: int, heavy: bool) -> np.ndarray:
    """Return round times of an arm around 1 ms, scattering by about 3 %, with or without stalls."""
    noise = rng.standard_t(3, rounds) if heavy else rng.normal(size=rounds)
    return np.exp(0.03 * noise)


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy-tailed"])
@pytest.mark.parametrize("rounds", [20, 60])
def test_a_95_percent_interval_covers_93_to_97_percent(rounds, heavy):
    rng = np.random.default_rng(rounds)
    trials = 1500
    hits = 0
    for trial in range(trials):
        found = ratio_interval(1.4 * _draws(rng, rounds, heavy), _draws(rng, rounds, heavy), resamples=799, seed=trial)
        hits += found.low <= 1.4 <= found.high
    scatter = 2 * math.sqrt(0.95 * 0.05 / trials)  # of the simulation itself
    assert 0.93 - scatter < hits / trials < 0.97 + scatter


def test_the_interval_of_a_geometric_mean_covers_too():
    rng = np.random.default_rng(5)
    truth = (1.2 * 1.5 * 1.3) ** (1 / 3)
    hits = 0
    for trial in range(150):
        pairs = [(k * _draws(rng, 25, True), _draws(rng, 25, True)) for k in (1.2, 1.5, 1.3)]
        found = geometric_mean_interval(pairs, seed=trial)
        hits += found.low <= truth <= found.high
    assert 0.89 < hits / 150 <= 1.0


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_over_seeds_covers(seeds):
    rng = np.random.default_rng(seeds)
    trials = 4000
    ratios = 1.4 * np.exp(rng.normal(scale=0.2, size=(trials, seeds)))
    found = [seed_ratio_interval(row, np.ones(seeds)) for row in ratios]
    hits = sum(interval.low <= 1.4 <= interval.high for interval in found)
    scatter = 3 * math.sqrt(0.95 * 0.05 / trials)
    assert abs(hits / trials - 0.95) < scatter


def test_seeds_are_paired():
    rng = np.random.default_rng(0)
    luck = np.exp(rng.normal(size=5))  # seeds differ far more than schemes do
    found = seed_ratio_interval(1.3 * luck, luck)
    assert (found.estimate, found.low, found.high, found.n) == pytest.approx((1.3, 1.3, 1.3, 5))


def test_one_seed_says_nothing_of_its_own_scatter():
    assert seed_ratio_interval([2.0], [1.0]) is None
    assert seed_ratio_interval([], []) is None


def test_autocorrelation_is_that_of_neighbours():
    assert autocorrelation([1.0, -1.0, 1.0, -1.0]) == pytest.approx(-0.75)
    assert autocorrelation(np.arange(100.0)) > 0.9
    assert [autocorrelation(series) for series in ([], [1.0, 2.0], [3.0] * 9)] == [0.0, 0.0, 0.0]


def test_an_independent_series_is_flagged_once_in_20_times_and_a_dependent_one_mostly():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 41))
    assert 0.02 < np.mean([is_autocorrelated(row[1:]) for row in noise]) < 0.08
    assert np.mean([is_autocorrelated(row[1:] + row[:-1]) for row in noise]) > 0.8


def test_an_interval_over_an_exact_number_keeps_what_it_is_of():
    found = seed_ratio_interval([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
    halved = found.over(2.0)
    assert (halved.estimate, halved.low, halved.high) == pytest.approx(
        (found.estimate / 2, found.low / 2, found.high / 2)
    )
    assert (halved.n, halved.log_se, halved.df) == (found.n, found.log_se, found.df)
    assert Interval(1.0, 0.9, 1.1, 20).num_processes == 1


@pytest.mark.parametrize("module", ["statistics", "processes", "inference"])
def test_importing_statistics_loads_neither_torch_nor_scipy(module):
    code = f"import sys, bench.analysis.{module}; sys.exit(bool({{'torch', 'scipy', 'pandas'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
