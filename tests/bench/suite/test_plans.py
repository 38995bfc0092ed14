import pytest
from pydantic import ValidationError

from bench import suite as suites
from bench.suite.plans import Timing


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
