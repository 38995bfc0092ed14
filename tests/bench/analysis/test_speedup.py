import pytest

from bench.analysis.speedup import Summary, compare, summarise
from bench.analysis.statistics import Interval
from tests.bench.gate.made import record, run
from tests.bench.rows import case_row, changed


def _row(mine, other):
    return case_row(arms={"one_stage": {"wall_ms": mine, "flops": 100}, "two_stage": {"wall_ms": other, "flops": 144}})


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.2, "faster"), (0.8, "slower"), (1.0, "inconclusive"), (1.0001, "inconclusive")]
)
def test_the_verdict_follows_the_interval(factor, verdict):
    times = [1.0, 1.02, 0.99, 1.03, 0.97, 1.01, 1.0, 0.98, 1.0, 1.0]
    found = compare(_row(times, [factor * time for time in reversed(times)]), "two_stage")
    assert found.verdict == verdict
    assert found.ceiling == pytest.approx(1.44)
    assert found.efficiency == pytest.approx(factor / 1.44, rel=0.02)


@pytest.mark.parametrize("scheme", ["one_stage", "two_stage"])
@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_an_arm_without_a_result_is_the_verdict(scheme, status):
    row = changed(_row([1.0, 1.0], [1.0, 1.0]), scheme, status=status, reason="because")
    found = compare(row, "two_stage")
    assert (found.verdict, found.reason, found.speedup) == (status, f"{scheme}: because", None)


def test_a_case_that_died_fails_every_comparison():
    row = case_row(status="failed", reason="killed")
    assert compare(row, "two_stage").verdict == "failed"
    assert compare(row, "two_stage").reason == "killed"


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [(1.51, 1.6, "holds"), (1.3, 1.49, "holds not"), (1.4, 1.6, "undecided"), (1.5, 1.6, "holds")],
)
def test_the_claim_is_decided_by_the_interval(low, high, claim):
    assert Summary("two_stage", [], Interval((low + high) / 2, low, high, 20, num_processes=3)).claim() == claim


def test_nothing_measured_leaves_the_claim_undecided():
    assert Summary("two_stage", [], None).claim() == "undecided"


@pytest.mark.parametrize("scheme", ["one_stage", "two_stage"])
def test_arms_that_ran_on_different_engines_are_not_compared(scheme):
    """One arm that fell back to eager steps would make the other look faster than its scheme is."""
    causes = ["cuda_graph is not possible here: OutOfMemoryError"]
    row = changed(_row([1.0, 1.02, 0.99, 1.03, 0.97], [2.0, 2.1, 1.9, 2.0, 2.0]), scheme, fallbacks=causes)
    found = compare(row, "two_stage")
    assert (found.verdict, found.speedup) == ("skipped", None)
    assert f"{scheme}: cuda_graph is not possible" in found.reason
    other = "two_stage" if scheme == "one_stage" else "one_stage"
    assert compare(changed(row, other, fallbacks=causes), "two_stage").verdict == "faster"


def test_a_control_is_no_baseline_and_in_no_mean():
    assert [summary.baseline for summary in summarise(run(record()))] == ["two_stage", "two_stage_reused_frozen"]
