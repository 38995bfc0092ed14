import math

import pytest

from bench.analysis.efficiency import busy_shares, matmul_shares
from bench.analysis.targets import outcomes
from bench.report.words import outcome_text, target_lines
from tests.bench.rows import case_row, changed, run_of

NOISE = [1.0, 1.01, 0.99, 1.005, 0.995, 1.002, 0.998, 1.0, 1.003, 0.997]


def _arm(step_ms, **more):
    times = [step_ms * noise for noise in NOISE]
    return {"wall_ms": times, "flops": 10**9, **more}


def _row(name="a", speedup=1.6, flops_ratio=1.5, matmul=None, batch_size=64, process=0, **one_stage):
    arms = {"one_stage": _arm(1.0, **one_stage), "two_stage": _arm(speedup, flops=round(flops_ratio * 1e9))}
    case = {"architecture": name, "batch_size": batch_size, "precision": "bf16", "engine": "cuda_graph"}
    return case_row(name, arms, case, matmul_flops_per_s=matmul, process=process)


def _one(target, *rows):
    (found,) = outcomes(run_of(*rows, suite={"targets": [target]}))
    return found


SPEEDUP = {"what": "speedup", "baseline": "two_stage", "at_least": 1.5}
CEILING = {"what": "ceiling", "baseline": "two_stage"}
MATMUL = {"what": "matmul_share", "at_least": 0.4}
IDLE = {"what": "idle_share", "at_most": 0.05}


@pytest.mark.parametrize(
    ("speedup", "verdict"), [(1.6, "met"), (1.4, "not met"), (1.5, "inconclusive"), (1.501, "inconclusive")]
)
def test_a_speedup_is_judged_by_its_interval(speedup, verdict):
    rows = [_row(speedup=speedup * factor, process=process) for process, factor in enumerate((0.999, 1.0, 1.001))]
    assert _one(SPEEDUP, *rows).verdict == verdict
    assert _one(SPEEDUP, *rows[:1]).verdict == "inconclusive"  # one process does not show how far processes differ


def test_the_geometric_mean_is_judged_not_each_case():
    cases = (("a", 1.2), ("b", 2.0))
    rows = [
        _row(name, speedup * (1 + process / 1000), process=process) for process in (0, 1) for name, speedup in cases
    ]
    found = _one(SPEEDUP, *rows)
    assert found.verdict == "met"
    assert found.measured.estimate == pytest.approx(math.sqrt(1.2 * 2.0), rel=1e-3)
    assert (found.num_cases, found.num_measured, found.worst) == (2, 2, None)


def test_a_case_that_failed_is_counted():
    failed = case_row("b", status="failed", reason="killed")
    found = _one(SPEEDUP, _row(), failed)
    assert (found.num_cases, found.num_measured) == (2, 1)
    assert outcome_text(found).endswith("; 1 of 2 cases")


@pytest.mark.parametrize(("ceiling", "verdict"), [(1.5, "met"), (1.7, "not met")])
def test_the_ceiling_is_the_mean_of_the_cases_own(ceiling, verdict):
    found = _one(CEILING, _row("a", 1.6, ceiling), _row("b", 1.6, ceiling))
    assert found.verdict == verdict
    assert found.measured.estimate == pytest.approx(1.6 / ceiling)


def test_a_case_without_flops_is_no_part_of_the_ceiling():
    other = changed(_row("b", 9.0), "one_stage", flops=None)
    found = _one(CEILING, _row("a", 1.6, 1.6), other)
    assert found.measured.estimate == pytest.approx(1.0)
    assert found.num_measured == 1


@pytest.mark.parametrize(("matmul", "verdict"), [(2e12, "met"), (5e12, "not met"), (2.5e12, "inconclusive")])
def test_the_share_of_the_matrix_product(matmul, verdict):
    # 1e9 FLOP in a millisecond are 1e12 a second
    found = _one(MATMUL, _row(matmul=matmul))
    assert found.verdict == verdict
    assert found.measured.estimate == pytest.approx(1e12 / matmul)
    assert found.measured.low < found.measured.estimate < found.measured.high


def test_the_devices_own_clock_is_preferred():
    row = _row(matmul=2e12, device_ms=[0.5] * 10, busy_ms=0.25)
    assert matmul_shares(row, "one_stage") == pytest.approx([1.0] * 10)
    assert busy_shares(row, "one_stage") == pytest.approx([0.5] * 10)


@pytest.mark.parametrize(("busy", "verdict"), [(0.99, "met"), (0.90, "not met"), (0.95, "inconclusive"), (1.2, "met")])
def test_the_idle_share(busy, verdict):
    found = _one(IDLE, _row(busy_ms=busy))
    assert found.verdict == verdict
    assert found.measured.estimate == pytest.approx(1 - busy)
    assert found.measured.low < found.measured.estimate < found.measured.high


def test_every_case_has_to_meet_a_share_and_the_worst_is_named():
    assert _one(IDLE, _row("good", busy_ms=0.99), _row("bad", busy_ms=0.5)).worst == "bad"
    found = _one(MATMUL, _row("bad", matmul=9e12), _row("good", matmul=2e12))
    assert (found.worst, found.verdict, found.num_measured) == ("bad", "not met", 2)


@pytest.mark.parametrize("target", [MATMUL, IDLE])
def test_what_was_not_measured_is_neither_met_nor_missed(target):
    found = _one(target, _row())
    assert (found.verdict, found.measured, found.num_measured) == ("not measured", None, 0)
    assert target_lines([found])[0].endswith(": not measured")


def test_a_target_speaks_of_the_cases_that_match_on_every_axis():
    among = {"precision": "bf16", "architecture": ["a", "b"], "batch_size": [64, 128]}
    other = _row("a", busy_ms=0.1, batch_size=512)
    found = _one(IDLE | {"among": among}, _row("a", busy_ms=0.99), _row("c", busy_ms=0.1), other)
    assert (found.verdict, found.num_cases) == ("met", 1)
    assert "architecture a or b" in found.target


def test_a_suite_that_states_none_has_none():
    assert outcomes(run_of(_row())) == []
