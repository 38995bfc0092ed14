import math

import pytest
from pydantic import ValidationError

from bench import suite as suites
from bench.suite.plans import Timing
from bench.suite.tune import Tune, best_setting


def test_three_processes_share_the_budget_of_a_case():
    timing = Timing(budget_s=60)
    assert (timing.replicates, timing.most_replicates, timing.process_budget_s) == (3, 3, 20.0)
    assert Timing(budget_s=60, max_replicates=6).process_budget_s == 10.0
    assert Timing(budget_s=60, replicates=1).process_budget_s == 60.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicates": 0}, "greater than or equal to 1"),
        (
            {"max_replicates": 2},
            "'max_replicates' is 2, below 'replicates', which is 3: raise the former or leave it out",
        ),
        ({"replicates": 1, "max_replicates": 3}, "'max_replicates' above 1 needs 'replicates' of at least 2"),
        ({"preheat_s": -1}, "greater than or equal to 0"),
        ({"preheat_s": float("inf")}, "finite number"),
    ],
)
def test_processes_that_give_no_interval_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Timing(**settings)


@pytest.mark.parametrize(("kind", "seconds"), [("cuda", 5.0), ("cpu", 1.0)])
def test_a_device_is_heated_as_its_kind_needs_unless_the_suite_says(kind, seconds):
    assert Timing().preheat_on(kind) == seconds
    assert Timing(preheat_s=0).preheat_on(kind) == 0.0


def test_the_smoke_suite_is_one_process_and_does_not_wait():
    timing = suites.load("smoke").timing
    assert (timing.replicates, timing.most_replicates, timing.preheat_on("cuda")) == (1, 1, 0.0)


SPACE = {
    "generator_lr": (1e-4, 1e-2),
    "discriminator_lr": (1e-5, 1e-3),
    "beta1": (0.0, 0.9),
    "beta2": (0.9, 0.999),
}


def search(**more):
    return Tune(images=10, space=SPACE, **more)


def test_a_search_of_a_space_draws_points_that_can_be_drawn_again():
    tune = search(trials=200)
    assert tune.parts == list(range(200))
    points = [point for part in tune.parts for point in tune.settings(part, 3)]
    assert points == [point for part in tune.parts for point in tune.settings(part, 3)]
    assert tune.settings(0, 3) != tune.settings(0, 4)
    for key, (low, high) in SPACE.items():
        values = [point[key] for point in points]
        assert low <= min(values) < max(values) <= high
    # Half of the points lie below the geometric mean of a rate, the mean of beta1, the geometric one of 1 - beta2.
    middles = {"generator_lr": 1e-3, "discriminator_lr": 1e-4, "beta1": 0.45, "beta2": 0.99}
    for key, middle in middles.items():
        assert 75 < sum(point[key] < middle for point in points) < 125


def test_a_grid_is_one_part_with_all_points():
    tune = Tune(images=10, grid={"generator_lr": (1e-4, 2e-4), "beta1": (0.5,)})
    assert tune.parts == [None]
    assert tune.settings(None, 0) == [{"generator_lr": 1e-4, "beta1": 0.5}, {"generator_lr": 2e-4, "beta1": 0.5}]
    assert tune.edges({"generator_lr": 1e-4, "beta1": 0.5}) == []


def test_a_setting_in_the_outer_tenth_is_at_the_edge():
    inside = {"generator_lr": 1e-3, "discriminator_lr": 1e-4, "beta1": 0.45, "beta2": 0.99}
    assert search().edges(inside) == []
    assert search().edges(inside | {"generator_lr": 1.5e-4}) == ["generator_lr"]
    assert search().edges(inside | {"beta1": 0.05, "beta2": 0.9985}) == ["beta1", "beta2"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give one of the two"),
        ({"grid": {"beta1": (0.5,)}, "space": {"beta1": (0.1, 0.5)}}, "give one of the two"),
        ({"space": {"beta1": (0.5, 0.5)}}, "from 0.5 to 0.5"),
        ({"space": {"beta2": (0.9, 1.0)}}, "from 0 up to 1"),
        ({"space": {"generator_lr": (0.0, 1.0)}}, "above 0 and finite"),
        ({"space": {"generator_lr": (1e-4, math.inf)}}, "above 0 and finite"),
        ({"grid": {"generator_lr": (0.0,)}}, "above 0 and finite"),
        ({"space": {}}, "at least 1"),
        ({"space": {"momentum": (0.1, 0.2)}}, "generator_lr"),
    ],
)
def test_a_search_that_cannot_be_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        Tune(images=10, **asked)


def test_the_best_setting_is_that_of_the_lowest_value():
    trials = [{"setting": {"beta1": b}, "value": v} for b, v in ((0.1, None), (0.2, 3.0), (0.3, 2.0), (0.4, 2.5))]
    assert best_setting(trials) == {"beta1": 0.3}
    assert best_setting(trials[:1]) is None
