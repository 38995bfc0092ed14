import numpy as np
import pytest

from bench.analysis.steps import find_steps

SCATTER = 0.014
"""Of the gate's ratios between runs, relative."""


def _series(rng, levels, draw=None):
    """Return a scattered series with these (count, level)s."""
    flat = np.concatenate([np.full(count, level) for count, level in levels])
    return flat * np.exp(SCATTER * (draw or rng.standard_normal)(len(flat)))


def test_a_step_is_found_where_it_is_with_its_levels():
    (step,) = find_steps([1.40, 1.41, 1.39, 1.40, 1.40, 1.31, 1.30, 1.29, 1.30])
    assert step.index == 5
    assert step.before == pytest.approx(1.40, abs=0.002)
    assert step.after == pytest.approx(1.30, abs=0.002)
    assert step.change == pytest.approx(-0.071, abs=0.002)


def test_two_steps_have_the_level_between_them_in_common():
    rng = np.random.default_rng(0)
    first, second = find_steps(_series(rng, [(12, 1.4), (10, 1.2), (14, 1.3)]))
    assert (first.index, second.index) == (12, 22)
    assert first.after == second.before
    assert first.change < 0 < second.change


@pytest.mark.parametrize("ratios", [[], [1.4], [1.4, 1.2, 1.0], [1.4] * 30, [1.4, 1.4 + 1e-12] * 10])
def test_too_few_and_equal_values_have_no_step(ratios):
    assert find_steps(ratios) == []


def test_one_value_alone_is_no_level():
    assert find_steps([1.40, 1.41, 1.39, 1.40, 1.41, 1.40, 1.20]) == []
    assert [step.index for step in find_steps([1.40, 1.41, 1.39, 1.40, 1.41, 1.40, 1.20, 1.20])] == [6]


def test_values_that_do_not_scatter_step_all_the_same():
    assert [step.index for step in find_steps([1.4] * 5 + [1.3] * 5)] == [5]


@pytest.mark.parametrize("n", [4, 6, 12, 40])
@pytest.mark.parametrize("shape", ["normal", "t3"])
def test_noise_alone_is_cut_in_fewer_than_5_of_100_series(n, shape):
    """Three degrees of freedom: outliers as a busy machine makes them."""
    rng = np.random.default_rng(n)
    draw = rng.standard_normal if shape == "normal" else lambda count: rng.standard_t(3, count)
    found = sum(bool(find_steps(_series(rng, [(n, 1.4)], draw))) for _ in range(400))
    assert found / 400 < 0.05


@pytest.mark.parametrize(("before", "after"), [(8, 4), (18, 2), (10, 10)])
def test_a_planted_step_of_8_percent_is_found_in_9_of_10_series(before, after):
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(100):
        steps = find_steps(_series(rng, [(before, 1.4), (after, 1.4 * 0.92)]))
        hits += len(steps) == 1 and abs(steps[0].index - before) <= 1
    assert hits >= 90
