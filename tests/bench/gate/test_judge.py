from functools import partial

import numpy as np
import pytest

from bench import gate
from bench.analysis import processes
from bench.analysis.statistics import Interval, ratio_interval
from bench.gate.judge import COUNTS, FAILING, Row, Status, _hold
from tests.bench.gate.made import HELD, SPEEDUPS, WORK, record, run
from tests.bench.rows import case_row, changed

BASELINE = gate.baseline_of(run(record()), "a test's")


def verdicts(measured, baseline=BASELINE):
    return {row.scheme: row.verdict for row in gate.judge(measured, baseline)}


def status(measured, baseline=BASELINE):
    return gate.status_of(gate.judge(measured, baseline))


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        *((0.88, "below"), (0.939, "below"), (0.9401, "ok"), (0.97, "ok")),
        *((1.03, "ok"), (1.0599, "ok"), (1.061, "above"), (1.2, "above")),
    ],
)
def test_a_speedup_is_held_both_ways(factor, verdict):
    measured = run(record(slower=1 / factor))
    assert verdicts(measured) == {
        "two_stage": verdict,
        "two_stage_reused_frozen": verdict,
        "control": "ok",
        "one_stage": "ok",
    }
    assert status(measured) == (Status.PASS if verdict == "ok" else Status.FINDING)


def test_a_slower_baseline_scheme_alone_is_a_finding():
    measured = run(record(noise={"two_stage": np.full(20, 1.1)}))
    row = gate.judge(measured, BASELINE)[0]
    assert (row.scheme, row.verdict) == ("two_stage", "above")
    assert row.reasons == ("1.54 (1.54-1.54) begins above 1.484, 6% over the baseline",)
    assert verdicts(measured)["two_stage_reused_frozen"] == "ok"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.90, 0.93, "below"),
        (0.90, 0.96, "inconclusive"),  # lower for sure, and by the tolerance or by less
        (0.90, 0.99, "ok"),  # narrow enough, and its middle within the tolerance
        (0.95, 1.05, "ok"),
        (0.98, 1.09, "ok"),
        (0.93, 1.07, "inconclusive"),  # everything and its contrary
        (0.80, 1.0, "inconclusive"),
        (1.04, 1.10, "inconclusive"),
        (1.07, 1.30, "above"),  # wide, but wholly beyond
    ],
)
def test_an_interval_is_ok_only_where_it_can_tell(low, high, verdict):
    assert _hold(Interval((low + high) / 2, low, high, 20), 1.0, 0.06)[0] == verdict


def test_a_wide_interval_is_inconclusive_and_no_pass():
    spread = np.exp(np.linspace(-0.3, 0.3, 20))
    measured = run(record(noise={"two_stage": spread}))
    rows = {row.scheme: row for row in gate.judge(measured, BASELINE)}
    assert rows["two_stage"].verdict == "inconclusive"
    assert "is wider than the tolerance of 6% either way" in rows["two_stage"].reasons[0]
    assert status(measured) == Status.INCONCLUSIVE == 4


def test_a_case_has_its_own_tolerance():
    own = BASELINE.model_copy(update={"cases": {"a": BASELINE.cases["a"].model_copy(update={"tolerance": 0.15})}})
    measured = run(record(slower=1.1))
    assert verdicts(measured)["two_stage"] == "below"
    assert verdicts(measured, own)["two_stage"] == "ok"
    assert {row.tolerance for row in gate.judge(measured, own)} == {0.15}


@pytest.mark.parametrize("control", [0.96, 1.04])
def test_a_control_that_is_off_leaves_nothing_to_be_told_of_speed(control):
    measured = run(record(slower=1.2, control=control))
    rows = gate.judge(measured, BASELINE)
    assert {row.scheme: row.verdict for row in rows} == {
        "two_stage": "inconclusive",
        "two_stage_reused_frozen": "inconclusive",
        "control": "inconclusive",
        "one_stage": "ok",
    }
    assert "this machine cannot tell now" in rows[2].reasons[0]
    assert status(measured) == Status.INCONCLUSIVE
    assert status(run(record(control=control))) == Status.INCONCLUSIVE


def test_what_is_counted_fails_whatever_the_control_says():
    assert status(run(record(control=1.04, operators=401))) == Status.FINDING


@pytest.mark.parametrize("control", [0.975, 1.0, 1.025])
def test_a_control_within_half_of_the_tolerance_is_ok(control):
    assert status(run(record(control=control))) == Status.PASS


def test_a_control_that_is_too_wide_tells_nothing():
    found = verdicts(run(record(noise={"control": np.exp(np.linspace(-0.3, 0.3, 20))})))
    assert found["control"] == "inconclusive"
    assert found["two_stage"] == "ok"


def test_the_control_is_of_every_case_on_its_own_and_turns_all_of_them():
    both = gate.baseline_of(run(record("a"), record("b")), "two")
    rows = gate.judge(run(record("a", control=1.05), record("b")), both)
    assert {(row.case, row.scheme): row.verdict for row in rows} == {
        **{(case, scheme): "inconclusive" for case in "ab" for scheme in ("two_stage", "two_stage_reused_frozen")},
        ("a", "control"): "inconclusive",
        ("b", "control"): "ok",
        ("a", "one_stage"): "ok",
        ("b", "one_stage"): "ok",
    }


@pytest.mark.parametrize("count", ["flops", "operators"])
def test_one_more_of_anything_fails_and_one_less_is_shown(count):
    more, same, less = (gate.judge(run(record(**{count: WORK[count] + change})), BASELINE)[-1] for change in (1, 0, -1))
    assert (more.scheme, more.verdict) == ("one_stage", "more work")
    assert (same.verdict, same.work, same.reasons) == ("ok", ("same",), ())
    assert (less.verdict, less.work) == ("ok", (f"{COUNTS[count]} -1",))
    assert "->" in less.reasons[0]


@pytest.mark.parametrize("now", [299, 301, None])
def test_kernels_are_shown_and_never_fail(now):
    row = gate.judge(run(record(kernels=now)), BASELINE)[-1]
    assert row.verdict == "ok"
    assert "kernels" in row.reasons[0]
    assert row.work == (("same",) if now is None else (f"kernels {now - 300:+}",))


def test_a_count_that_is_lost_fails_and_one_that_never_was_is_held_to_nothing():
    assert verdicts(run(record(operators=None)))["one_stage"] == "failed"
    uncounted = gate.baseline_of(run(record(flops=None, operators=None, kernels=None)), "nothing counted")
    assert verdicts(run(record()), uncounted)["one_stage"] == "not compared"


def test_a_case_that_is_missing_or_failed_fails_and_a_new_one_does_not():
    both = gate.baseline_of(run(record("a"), record("b")), "two")
    rows = gate.judge(run(record("a")), both)
    assert [(row.scheme, row.verdict) for row in rows if row.case == "b"] == [(scheme, "missing") for scheme in HELD]
    assert {row.verdict for row in rows if row.case == "a"} == {"ok"}
    assert gate.status_of(rows) == Status.FINDING
    died = case_row("b", status="failed", reason="killed by signal 9")
    for baseline in (both, BASELINE):
        rows = [row for row in gate.judge(run(record("a"), died), baseline) if row.case == "b"]
        assert [row.scheme for row in rows] == list(SPEEDUPS)
        assert {row.verdict for row in rows} == {"failed"}
        assert rows[0].reasons == ("killed by signal 9",)
    assert status(run(record("a"), record("new"))) == Status.PASS
    assert verdicts(run(record("new")), None)["two_stage"] == "new"


def test_a_run_without_anything_in_common_with_the_baseline_is_no_pass():
    rows = gate.judge(run(record("renamed")), BASELINE)
    assert {row.verdict for row in rows if row.scheme != "control"} == {"new", "missing"}
    assert gate.status_of(rows) == Status.NOTHING_COMPARED == 3
    without = BASELINE.model_copy(update={"cases": {"a": BASELINE.cases["a"].model_copy(update={"speedups": {}})}})
    rows = gate.judge(run(record(), torch_version="2.16.0"), without)
    assert gate.status_of(rows) == Status.NOTHING_COMPARED


def test_an_arm_that_failed_fails_and_without_one_stage_all_do():
    broken = {"status": "failed", "reason": "NaN", "wall_ms": [1.0, 1.0]}
    made = changed(record(), "two_stage", **broken)
    assert verdicts(run(made)) == dict.fromkeys(SPEEDUPS, "ok") | {"two_stage": "failed"}
    rows = gate.judge(run(record(**broken)), BASELINE)
    assert [row.verdict for row in rows] == ["failed"] * 4
    assert rows[0].reasons == ("one_stage: failed: NaN",)


def test_arms_with_different_engines_have_no_speedup_and_fail():
    made = changed(record(), "two_stage", fallbacks=["cuda_graph is not possible here"])
    assert verdicts(run(made))["two_stage"] == "failed"


@pytest.mark.parametrize(("version", "compared"), [("2.15.3+cpu", True), ("2.16.0", False), ("3.15.0", False)])
def test_work_is_compared_within_one_version_of_torch_and_speedups_always(version, compared):
    measured = run(record(operators=401), torch_version=version)
    assert verdicts(measured) == dict.fromkeys(SPEEDUPS, "ok") | {
        "one_stage": "more work" if compared else "not compared"
    }
    assert status(run(record(slower=1.14), torch_version=version)) == Status.FINDING


def _row(verdict, scheme="two_stage"):
    return Row("a", scheme, verdict, 0.06, reasons=() if verdict == "ok" else (verdict,))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("below", "below", "below"),
        ("above", "above", "above"),
        ("below", "ok", "ok"),
        ("below", "above", "inconclusive"),
        ("inconclusive", "ok", "ok"),
        ("inconclusive", "below", "inconclusive"),
        ("below", "inconclusive", "inconclusive"),
        ("ok", "below", "ok"),
        ("more work", "ok", "more work"),
        ("below", "failed", "failed"),
    ],
)
def test_what_is_measured_twice(first, second, together):
    (row,) = gate.confirm([_row(first)], [_row(second)])
    assert row.verdict == together


def test_of_a_control_the_second_measurement_counts():
    for first, second in (("ok", "inconclusive"), ("inconclusive", "ok")):
        (row,) = gate.confirm([_row(first, "control")], [_row(second, "control")])
        assert row.verdict == second


ROUNDS, CASES = 90, "abc"


def _noisy(rng, slower=1.0, between_runs=0.01):
    """Return a run as scattered as on 2 CPU cores, where a ratio's quartiles were 4 to 12 % apart."""

    def arm():
        # of a ratio 1.4 % between runs, as measured; more than its interval knows of
        return np.exp(rng.normal(0, between_runs) + 0.05 * rng.standard_t(3, ROUNDS))

    return run(*(record(name, slower=slower, noise={scheme: arm() for scheme in SPEEDUPS}) for name in CASES))


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(processes, "ratio_interval", partial(ratio_interval, resamples=199))


def _gate(rng, slower=1.0, between_runs=0.01):
    baseline = gate.baseline_of(_noisy(rng), "before")
    first = gate.judge(_noisy(rng, slower, between_runs), baseline)
    if not any(row.verdict in ("below", "above", "inconclusive") for row in first):
        return gate.status_of(first)
    return gate.status_of(gate.confirm(first, gate.judge(_noisy(rng, slower, between_runs), baseline)))


def test_the_same_against_the_same_is_no_finding_in_99_of_100_runs_and_passes_in_90(quickly):
    rng = np.random.default_rng(0)
    found = [_gate(rng) for _ in range(100)]
    assert found.count(Status.FINDING) <= 1
    assert found.count(Status.PASS) >= 90


@pytest.mark.parametrize("factor", [0.88, 1.12])
def test_a_change_of_12_percent_is_found_in_90_of_100_runs_and_passes_in_none(quickly, factor):
    rng = np.random.default_rng(1)
    found = [_gate(rng, slower=1 / factor) for _ in range(60)]
    assert found.count(Status.PASS) == 0
    assert found.count(Status.FINDING) >= 54


def test_a_machine_that_cannot_tell_is_told_by_its_control(quickly):
    rng = np.random.default_rng(2)
    found = [_gate(rng, between_runs=0.06) for _ in range(40)]
    assert found.count(Status.INCONCLUSIVE) >= 36


def test_every_failing_verdict_fails():
    for verdict in FAILING:
        assert gate.status_of([_row(verdict), _row("ok")]) == Status.FINDING


@pytest.mark.parametrize("slower", [1 / 1.2, 1.2])
def test_another_processor_may_have_other_ratios_and_fails_for_its_work_alone(slower):
    measured = run(record(slower=slower), cpu="Another CPU")
    assert verdicts(run(record(slower=slower)))["two_stage"] in ("below", "above")
    assert verdicts(measured)["two_stage"] == "inconclusive"
    assert status(measured) == Status.INCONCLUSIVE
    assert verdicts(run(record(operators=401), cpu="Another CPU"))["one_stage"] == "more work"
