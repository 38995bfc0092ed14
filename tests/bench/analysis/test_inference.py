import math

import numpy as np
import pytest

from bench.analysis.inference import holm, p_value, smallest_detectable
from bench.analysis.processes import ratio_over_processes
from bench.analysis.statistics import Interval, student_interval
from tests.bench.analysis.simulated import REPEATS, blind, repeats


def test_holm_is_the_textbook_s():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_p_value_says_what_the_interval_says():
    edge = student_interval(math.log(1.02), math.log(1.02) / 4.302653, 2, n=60, num_processes=3)
    assert edge.low == pytest.approx(1.0)
    assert p_value(edge) == pytest.approx(0.05, abs=1e-6)
    assert p_value(edge, null=1.02) == pytest.approx(1.0)
    assert p_value(edge.over(1.02)) == pytest.approx(1.0)


def test_without_scatter_a_difference_is_certain_and_rounds_alone_give_none():
    assert p_value(student_interval(0.1, 0.0, 2, n=6)) == 0.0
    assert p_value(student_interval(0.0, 0.0, 2, n=6)) == 1.0
    assert p_value(Interval(1.1, 1.0, 1.2, 20)) is None


def test_holm_holds_the_chance_of_any_false_verdict_in_a_family_of_8_cases():
    rng = np.random.default_rng(0)
    families = list(zip(*(repeats(rng, processes=3, sd=sd) for sd in np.geomspace(0.003, 0.02, 8)), strict=True))
    judged = [[ratio_over_processes(case) for case in family] for family in families]
    p_values = [[p_value(interval) for interval in family] for family in judged]
    slack = 3 * math.sqrt(0.05 * 0.95 / REPEATS)
    assert np.mean([min(holm(family)) <= 0.05 for family in p_values]) <= 0.05 + slack
    assert np.mean([min(family) <= 0.05 for family in p_values]) > 0.2  # case by case: in every third run, a false one
    wrong = [[p_value(blind(case)) for case in family] for family in families[:300]]
    assert np.mean([min(holm(family)) <= 0.05 for family in wrong]) > 0.2


@pytest.mark.parametrize("processes", [3, 5])
def test_the_smallest_detectable_difference_is_found_in_90_percent_of_repeats(processes):
    rng = np.random.default_rng(processes)
    difference = smallest_detectable(0.014, processes)
    logs = np.log1p(difference) + 0.014 * rng.normal(size=(REPEATS, processes))
    found = [ratio_over_processes([([math.exp(log)], [1.0]) for log in row]).low > 1 for row in logs]
    assert np.mean(found) == pytest.approx(0.9, abs=0.02)


def test_what_can_be_detected_needs_two_processes_and_shrinks_with_more():
    sizes = [smallest_detectable(0.01, processes) for processes in range(2, 10)]
    assert sizes == sorted(sizes, reverse=True)
    assert smallest_detectable(0.01, 3, power=0.5) < sizes[1]
    with pytest.raises(ValueError, match="at least 2 processes, got 1"):
        smallest_detectable(0.01, 1)
