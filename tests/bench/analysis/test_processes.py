import math
from functools import cache

import numpy as np
import pytest

from bench.analysis.processes import (
    enough,
    geometric_mean_over_processes,
    process_ratio,
    ratio_over_processes,
)
from bench.analysis.statistics import Interval, ratio_interval, student_interval
from tests.bench.analysis.simulated import MONTE_CARLO, REPEATS, blind, coverage, repeats

EXACT = [([2.0, 2.0], [1.0, 1.0]), ([8.0, 8.0, 8.0], [1.0, 1.0, 1.0])]


def test_every_process_weighs_the_same_however_many_its_rounds():
    found = ratio_over_processes(EXACT)
    assert found.estimate == pytest.approx(4.0)
    assert (found.n, found.num_processes, found.df) == (5, 2, 1)
    half = 12.706 * math.log(2)  # t of one degree of freedom, times the standard error of log 2 and log 8
    assert (found.low, found.high) == pytest.approx((4 / math.exp(half), 4 * math.exp(half)), rel=1e-3)


def test_one_process_gives_the_interval_of_its_rounds():
    times = ([1.0, 1.2, 1.1, 1.3], [1.0, 1.0, 1.1, 1.1])
    assert ratio_over_processes([times]) == ratio_interval(*times)
    assert ratio_over_processes([times]).num_processes == 1


def test_the_first_stage_alone_gives_the_variance():
    later = ([3.0, 3.0], [1.0, 1.0])
    found = ratio_over_processes([*EXACT, later], first_stage=2)
    assert (found.df, found.num_processes) == (1, 3)
    assert found.estimate == pytest.approx(48 ** (1 / 3))
    assert found.log_se == pytest.approx(math.sqrt(2 * math.log(2) ** 2 / 3))


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match="at least 1 replicate"):
        ratio_over_processes([])
    with pytest.raises(ValueError, match="first stage of at least 2, got 1"):
        ratio_over_processes(EXACT, first_stage=1)
    for cases in ([], [EXACT, []]):
        with pytest.raises(ValueError, match="at least 1 case and 1 replicate"):
            geometric_mean_over_processes(cases)


def test_a_process_is_judged_by_the_median_of_its_pairs_which_drift_leaves_alone():
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 1.1, 20)
    estimates = {"pairs": [], "medians": []}
    for _ in range(1000):
        baseline, mine = np.exp(0.01 * rng.normal(size=(2, 20))) * np.where(rng.random((2, 20)) < 0.02, 3, 1) * drift
        estimates["pairs"].append(process_ratio(baseline, mine))
        estimates["medians"].append(np.log(np.median(baseline) / np.median(mine)))
    assert np.std(estimates["pairs"]) < 0.6 * np.std(estimates["medians"])


@pytest.mark.parametrize(("sd", "processes"), [(0.003, 3), (0.014, 3), (0.02, 5)])
def test_a_against_a_is_no_difference_in_95_percent_of_repeats(sd, processes):
    cases = repeats(np.random.default_rng(processes), processes=processes, sd=sd)
    assert abs(coverage([ratio_over_processes(case) for case in cases]) - 0.95) < MONTE_CARLO
    if sd > 0.01:
        assert coverage([blind(case) for case in cases]) < 0.85
        one = [ratio_interval(*case[0], resamples=499) for case in cases[:300]]
        assert coverage(one) < 0.85  # an interval of one process, as wide as its rounds say


def _found(processes: int, sd: float) -> float:
    """Return the share of repeats in which 3 % is found, with rounds that leave a tenth of the variance."""
    noise = sd * math.sqrt(0.1 * 40 / math.pi)  # the median of 40 log ratios has the variance pi / 40 noise^2
    cases = repeats(np.random.default_rng(1), processes=processes, sd=sd, ratio=1.03, rounds=40, noise=noise)
    return float(np.mean([ratio_over_processes(case).low > 1 for case in cases]))


def test_3_percent_is_found_in_90_percent_of_repeats_as_the_table_in_the_docs_says():
    assert _found(3, 0.005) > 0.98
    assert _found(3, 0.006) > 0.9 > _found(3, 0.01)
    assert _found(4, 0.014) < 0.9 < _found(6, 0.014)
    aside = repeats(np.random.default_rng(2), processes=3, sd=0.005, rounds=40, noise=0.003)
    assert 1 - coverage([blind(case) for case in aside]) > 0.2  # who ignores processes finds what is not there


@cache
def _eight_cases(seed: int) -> list[list[list]]:
    """Return repeats of eight cases, whose processes differ by 0.3 % to 2 %, of 3 processes each."""
    rng = np.random.default_rng(seed)
    ratios = np.linspace(1.1, 1.8, 8)
    by_case = [
        repeats(rng, processes=3, sd=sd, ratio=ratio)
        for sd, ratio in zip(np.geomspace(0.003, 0.02, 8), ratios, strict=True)
    ]
    return list(zip(*by_case, strict=True))


def test_the_interval_of_a_mean_over_cases_covers():
    truth = math.exp(np.log(np.linspace(1.1, 1.8, 8)).mean())
    found = [geometric_mean_over_processes(cases) for cases in _eight_cases(0)]
    assert {interval.num_processes for interval in found} == {3}
    assert 0.93 <= coverage(found, truth) <= 0.97
    wrong = []
    for cases in _eight_cases(0)[:500]:
        each = [blind(case) for case in cases]
        log_se = math.sqrt(sum(interval.log_se**2 for interval in each)) / 8
        wrong.append(student_interval(float(np.mean([np.log(i.estimate) for i in each])), log_se, 400, n=0))
    assert coverage(wrong, truth) < 0.9


def test_a_mean_adds_the_variances_of_its_cases():
    case = [([1.1, 1.1], [1.0, 1.0]), ([1.2, 1.2], [1.0, 1.0]), ([1.3, 1.3], [1.0, 1.0])]
    one, found = ratio_over_processes(case), geometric_mean_over_processes([case, case])
    assert found.estimate == pytest.approx(one.estimate)
    assert found.log_se == pytest.approx(one.log_se / math.sqrt(2))
    assert (found.df, found.n) == (pytest.approx(4), 6)
    still = geometric_mean_over_processes([[EXACT[0], EXACT[0]]])
    assert (still.estimate, still.low, still.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_mean_with_a_case_of_one_process_says_so():
    found = geometric_mean_over_processes([EXACT, [([4.0, 4.0], [1.0, 1.0])]])
    assert (found.num_processes, found.df) == (1, None)
    assert found.estimate == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("half_widths", "processes", "said"),
    [
        ((0.01, 0.01), 2, False),
        ((0.01, 0.01), 3, True),
        ((0.01, 0.03), 3, False),
        ((0.01, 0.03), 6, True),
        ((), 1, True),
    ],
)
def test_processes_are_added_until_every_interval_is_narrow_or_there_are_most(half_widths, processes, said):
    intervals = [Interval(1.0, 1 - half, 1 + half, 20, processes) for half in half_widths]
    assert enough(intervals, target_half_width=0.02, replicates=3, max_replicates=6) is said


def test_there_are_enough_repeats_to_tell_93_from_95_percent():
    assert REPEATS >= 2000
    assert MONTE_CARLO < 0.02
