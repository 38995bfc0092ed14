import math
from pathlib import Path

import pytest

from bench.analysis.efficiency import busy_shares, matmul_shares
from bench.analysis.targets import outcomes
from bench.report.words import outcome_text, target_lines
from bench.results.store import Run

NOISE = [1.0, 1.01, 0.99, 1.005, 0.995, 1.002, 0.998, 1.0, 1.003, 0.997]


def _arm(step_ms, **more):
    times = [step_ms * noise for noise in NOISE]
    return {"status": "ok", "reason": None, "wall_ms": times, "device_ms": None, "flops": 1e9, **more}


def _record(name="a", speedup=1.6, flops_ratio=1.5, matmul=None, **one_stage):
    arms = {"one_stage": _arm(1.0, **one_stage), "two_stage": _arm(speedup, flops=flops_ratio * 1e9)}
    case = {"architecture": name, "batch_size": 64, "precision": "bf16", "engine": "cuda_graph"}
    return {"name": name, "case": case, "status": "ok", "arms": arms, "matmul_flops_per_s": matmul}


def _one(target, *records):
    suite = {"schemes": ["two_stage", "one_stage"], "targets": [target]}
    (found,) = outcomes(Run(Path(), {"suite": suite, "cases": []}, list(records), []))
    return found


SPEEDUP = {"what": "speedup", "baseline": "two_stage", "at_least": 1.5}
CEILING = {"what": "ceiling", "baseline": "two_stage"}
MATMUL = {"what": "matmul_share", "at_least": 0.4}
IDLE = {"what": "idle_share", "at_most": 0.05}


@pytest.mark.parametrize(
    ("speedup", "verdict"), [(1.6, "met"), (1.4, "not met"), (1.5, "inconclusive"), (1.501, "inconclusive")]
)
def test_a_speedup_is_judged_by_its_interval(speedup, verdict):
    record = _record(speedup=speedup)
    record["arms"]["two_stage"]["wall_ms"] = [speedup * noise for noise in reversed(NOISE)]
    assert _one(SPEEDUP, record).verdict == verdict


def test_the_geometric_mean_is_judged_not_each_case():
    found = _one(SPEEDUP, _record("a", 1.2), _record("b", 2.0))
    assert found.verdict == "met"
    assert found.measured.estimate == pytest.approx(math.sqrt(1.2 * 2.0))
    assert (found.num_cases, found.num_measured, found.worst) == (2, 2, None)


def test_a_case_that_failed_is_counted():
    failed = {"name": "b", "case": {}, "status": "failed", "reason": "killed", "arms": {}}
    found = _one(SPEEDUP, _record(), failed)
    assert (found.num_cases, found.num_measured) == (2, 1)
    assert outcome_text(found).endswith("; 1 of 2 cases")


@pytest.mark.parametrize(("ceiling", "verdict"), [(1.5, "met"), (1.7, "not met")])
def test_the_ceiling_is_the_mean_of_the_cases_own(ceiling, verdict):
    found = _one(CEILING, _record("a", 1.6, ceiling), _record("b", 1.6, ceiling))
    assert found.verdict == verdict
    assert found.measured.estimate == pytest.approx(1.6 / ceiling)


def test_a_case_without_flops_is_no_part_of_the_ceiling():
    other = _record("b", 9.0)
    other["arms"]["one_stage"]["flops"] = None
    found = _one(CEILING, _record("a", 1.6, 1.6), other)
    assert found.measured.estimate == pytest.approx(1.0)
    assert found.num_measured == 1


@pytest.mark.parametrize(("matmul", "verdict"), [(2e12, "met"), (5e12, "not met"), (2.5e12, "inconclusive")])
def test_the_share_of_the_matrix_product(matmul, verdict):
    # 1e9 FLOP in a millisecond are 1e12 a second
    found = _one(MATMUL, _record(matmul=matmul))
    assert found.verdict == verdict
    assert found.measured.estimate == pytest.approx(1e12 / matmul)
    assert found.measured.low < found.measured.estimate < found.measured.high


def test_the_devices_own_clock_is_preferred():
    record = _record(matmul=2e12, device_ms=[0.5] * 10, busy_ms=0.25)
    assert matmul_shares(record, "one_stage") == pytest.approx([1.0] * 10)
    assert busy_shares(record, "one_stage") == pytest.approx([0.5] * 10)


@pytest.mark.parametrize(("busy", "verdict"), [(0.99, "met"), (0.90, "not met"), (0.95, "inconclusive"), (1.2, "met")])
def test_the_idle_share(busy, verdict):
    found = _one(IDLE, _record(busy_ms=busy))
    assert found.verdict == verdict
    assert found.measured.estimate == pytest.approx(1 - busy)
    assert found.measured.low < found.measured.estimate < found.measured.high


def test_every_case_has_to_meet_a_share_and_the_worst_is_named():
    assert _one(IDLE, _record("good", busy_ms=0.99), _record("bad", busy_ms=0.5)).worst == "bad"
    found = _one(MATMUL, _record("bad", matmul=9e12), _record("good", matmul=2e12))
    assert (found.worst, found.verdict, found.num_measured) == ("bad", "not met", 2)


@pytest.mark.parametrize("target", [MATMUL, IDLE])
def test_what_was_not_measured_is_neither_met_nor_missed(target):
    found = _one(target, _record())
    assert (found.verdict, found.measured, found.num_measured) == ("not measured", None, 0)
    assert target_lines([found])[0].endswith(": not measured")


def test_a_target_speaks_of_the_cases_that_match_on_every_axis():
    among = {"precision": "bf16", "architecture": ["a", "b"], "batch_size": [64, 128]}
    other = _record("a", busy_ms=0.1)
    other["case"]["batch_size"] = 512
    found = _one(IDLE | {"among": among}, _record("a", busy_ms=0.99), _record("c", busy_ms=0.1), other)
    assert (found.verdict, found.num_cases) == ("met", 1)
    assert "architecture a or b" in found.target


def test_a_suite_that_states_none_has_none():
    manifest = {"suite": {"schemes": ["one_stage"]}, "cases": []}
    assert outcomes(Run(Path(), manifest, [_record()], [])) == []
