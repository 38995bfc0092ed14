import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from bench import gate
from bench.analysis import speedup
from bench.analysis.statistics import ratio_interval
from osgan.errors import InputError
from tests.bench.rows import case_row, changed, machine, run_of

SPEEDUPS = {"two_stage": 1.4, "two_stage_reused_frozen": 1.2, "one_stage": 1.0}
WORK = {"flops": 1000, "operators": 400, "kernels": 300}
EVEN = np.ones(20)


def _record(name="a", *, slower=1.0, noise=None, **changes):
    """Return a case with one-stage slowed down by a factor; `noise` gives factors a round to each scheme."""
    arms = {
        scheme: {
            "status": "ok",
            "reason": None,
            "wall_ms": list(factor * (slower if scheme == "one_stage" else 1) * (noise or {}).get(scheme, EVEN)),
            **WORK,
        }
        for scheme, factor in SPEEDUPS.items()
    }
    arms["one_stage"] |= changes
    return case_row(name, arms)


def _run(*records, torch_version="2.15.0", cpu="Some CPU", names=None):
    return run_of(
        *records,
        path=Path("results/regress/x"),
        cases=names or [record.name for record in records],
        on=machine(cpu=cpu, libraries={"torch": torch_version}),
        suite={"name": "regress", "schemes": list(SPEEDUPS)},
    )


BASELINE = gate.baseline_of(_run(_record()), "a test's")


def _verdicts(run, baseline=BASELINE):
    return {row.scheme: row.verdict for row in gate.judge(run, baseline)}


def _passes(run, baseline=BASELINE):
    return not any(row.verdict in gate.FAILING for row in gate.judge(run, baseline))


@pytest.mark.parametrize(
    ("kept", "verdict"), [(0.88, "below"), (0.939, "below"), (0.9401, "ok"), (0.97, "ok"), (1.2, "ok")]
)
def test_a_speedup_is_below_when_its_interval_ends_more_than_the_tolerance_under_the_baseline(kept, verdict):
    found = _verdicts(_run(_record(slower=1 / kept)))
    assert found == {"two_stage": verdict, "two_stage_reused_frozen": verdict, "one_stage": "ok"}


def test_an_interval_that_reaches_the_limit_passes_although_its_estimate_is_below():
    spread = np.exp(np.linspace(-0.2, 0.2, 20))
    run = _run(_record(slower=1 / 0.92, noise={"two_stage": spread}))
    rows = {row.scheme: row for row in gate.judge(run, BASELINE)}
    limit = 1.4 * (1 - BASELINE.tolerance)
    assert rows["two_stage"].speedup.estimate < limit < rows["two_stage"].speedup.high
    assert rows["two_stage"].verdict == "ok"
    assert rows["two_stage_reused_frozen"].verdict == "below"


@pytest.mark.parametrize("count", WORK)
def test_one_more_of_anything_fails_and_one_less_is_shown(count):
    more, same, less = (
        gate.judge(_run(_record(**{count: WORK[count] + change})), BASELINE)[-1] for change in (1, 0, -1)
    )
    assert (more.scheme, more.verdict) == ("one_stage", "more work")
    assert (same.verdict, same.work, same.reasons) == ("ok", ("same",), ())
    assert (less.verdict, less.work) == ("ok", (f"{gate.COUNTS[count]} -1",))
    assert "->" in less.reasons[0]


def test_a_count_that_is_lost_fails_and_one_that_never_was_is_held_to_nothing():
    assert _verdicts(_run(_record(kernels=None)))["one_stage"] == "failed"
    on_cpu = gate.baseline_of(_run(_record(kernels=None)), "no kernels")
    assert _verdicts(_run(_record(kernels=None)), on_cpu)["one_stage"] == "ok"
    uncounted = gate.baseline_of(_run(_record(flops=None, operators=None, kernels=None)), "nothing counted")
    assert _verdicts(_run(_record()), uncounted)["one_stage"] == "not compared"


def test_a_case_that_is_missing_or_failed_fails_and_a_new_one_does_not():
    both = gate.baseline_of(_run(_record("a"), _record("b")), "two")
    rows = gate.judge(_run(_record("a")), both)
    assert {row.verdict for row in rows if row.case == "b"} == {"failed"}
    assert {row.verdict for row in rows if row.case == "a"} == {"ok"}
    died = case_row("b", status="failed", reason="killed by signal 9")
    for baseline in (both, BASELINE):
        rows = [row for row in gate.judge(_run(_record("a"), died), baseline) if row.case == "b"]
        assert [row.scheme for row in rows] == list(SPEEDUPS)
        assert {row.verdict for row in rows} == {"failed"}
        assert rows[0].reasons == ("killed by signal 9",)
    assert {row.verdict for row in gate.judge(_run(_record("new")), None)} == {"new"}
    assert _passes(_run(_record("a"), _record("new")))


def test_an_arm_that_failed_fails_and_without_one_stage_all_do():
    broken = {"status": "failed", "reason": "NaN", "wall_ms": [1.0, 1.0]}
    record = changed(_record(), "two_stage", **broken)
    assert _verdicts(_run(record)) == {"two_stage": "failed", "two_stage_reused_frozen": "ok", "one_stage": "ok"}
    rows = gate.judge(_run(_record(**broken)), BASELINE)
    assert [row.verdict for row in rows] == ["failed"] * 3
    assert rows[0].reasons == ("one_stage: failed: NaN",)


@pytest.mark.parametrize(("version", "compared"), [("2.15.3+cpu", True), ("2.16.0", False), ("3.15.0", False)])
def test_work_is_compared_within_one_version_of_torch_and_speedups_always(version, compared):
    run = _run(_record(operators=401), torch_version=version)
    assert _verdicts(run) == {
        "two_stage": "ok",
        "two_stage_reused_frozen": "ok",
        "one_stage": "more work" if compared else "not compared",
    }
    assert ("work not compared: baseline is of torch 2.15.0" in _printed(run)) is not compared
    assert not _passes(_run(_record(slower=1.14), torch_version=version))


def _printed(run, baseline=BASELINE):
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        gate.print_rows(console, gate.judge(run, baseline), run, baseline)
        return console.export_text()


def test_the_table_fits_80_columns_and_says_what_differs():
    record = _record("digits dcgan32+width=16+norm=group nonsaturating 32 fp32 eager", operators=402, flops=10**9)
    text = _printed(_run(_record(slower=1.2), record, cpu="Another CPU"), BASELINE)
    table = [line for line in text.splitlines() if not line.startswith(("below", "more", "another", "baseline:"))]
    assert max(map(len, table)) <= 80
    assert "below: a, two_stage: 1.17 (1.17-1.17) ends below 1.316, 6% under the baseline" in text
    assert "another cpu: the baseline is of 'Some CPU', this is 'Another CPU'" in text
    assert "baseline: 2026-11-22, commit abc, torch 2.15.0: a test's" in text
    assert "new" in text


@pytest.fixture
def run_gate(tmp_path, monkeypatch):
    """Run the gate on one made-up run after the other instead of measuring."""

    def run(*runs, update=False, reason=None):
        left = list(runs)
        monkeypatch.setattr(gate, "measure", lambda *_: left.pop(0))
        console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
        with console.file:
            passed = gate.run(
                console, torch.device("cpu"), tmp_path, tmp_path / "baseline", update=update, reason=reason
            )
        return passed, console.export_text(), len(runs) - len(left)

    return run


def test_an_update_is_read_back_as_written(run_gate, tmp_path):
    passed, text, _ = run_gate(_run(_record()), update=True, reason=" first ")
    path = tmp_path / "baseline" / "cpu.json"
    assert passed
    assert f"wrote {path}" in text
    assert gate.load(path) == gate.baseline_of(_run(_record()), "first")
    assert [file.name for file in path.parent.iterdir()] == ["cpu.json"]
    assert run_gate(_run(_record()))[:1] == (True,)


def test_an_update_keeps_the_tolerance_and_shows_what_it_replaces(run_gate, tmp_path):
    run_gate(_run(_record()), update=True, reason="first")
    path = tmp_path / "baseline" / "cpu.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tolerance": 0.08}))
    _, text, measured = run_gate(_run(_record(slower=1.3)), update=True, reason="slower, and why")
    assert "below" in text
    assert measured == 1
    assert (gate.load(path).tolerance, gate.load(path).reason) == (0.08, "slower, and why")


def test_a_loss_of_speed_has_to_show_twice(run_gate):
    run_gate(_run(_record()), update=True, reason="first")
    slow, good = _run(_record(slower=1.2)), _run(_record())
    passed, text, measured = run_gate(slow, good)
    assert (passed, measured) == (True, 2)
    assert "not so when measured again" in text
    passed, text, measured = run_gate(slow, slow)
    assert (passed, measured) == (False, 2)
    assert "the gate fails: 2 of 3 rows" in text
    passed, _, measured = run_gate(_run(_record(operators=401)), good)
    assert (passed, measured) == (False, 1)  # what is counted is not counted again


def test_mistakes_are_said_before_anything_is_measured(run_gate, tmp_path):
    with pytest.raises(InputError, match=r"no baseline .*cpu.json; write one with: .* --update --reason"):
        run_gate()
    for reason in (None, "", "  "):
        with pytest.raises(InputError, match="needs a reason"):
            run_gate(update=True, reason=reason)
    with pytest.raises(InputError, match="give it with --update"):
        run_gate(reason="why")
    assert not (tmp_path / "baseline").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2, this version of bench reads 1"),
        ({"format": None}, "has format None"),
        ({"tolerance": 1.5}, "tolerance: Input should be less than 1"),
        ({"cases": {"a": {}}}, r"cases\.a\.speedups: Field required"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_refused_and_an_update_replaces_it(run_gate, tmp_path, change, message):
    path = tmp_path / "baseline" / "cpu.json"
    path.parent.mkdir()
    path.write_text(json.dumps(BASELINE.model_dump() | change))
    with pytest.raises(InputError, match=message):
        run_gate()
    path.write_text("{broken")
    with pytest.raises(InputError, match="cannot be read"):
        run_gate()
    assert run_gate(_run(_record()), update=True, reason="replaced")[0]
    assert gate.load(path).reason == "replaced"


def test_a_run_with_a_hole_or_a_vague_interval_is_no_baseline(run_gate, tmp_path):
    for run in (_run(_record("a"), names=["a", "b"]), _run(_record(status="failed", reason="NaN"))):
        with pytest.raises(InputError, match="cannot be a baseline"):
            run_gate(run, update=True, reason="why not")
    vague = _record(noise={"two_stage": np.exp(np.linspace(-0.5, 0.5, 20))})
    with pytest.raises(InputError, match=r"two_stage: .* vaguer than the tolerance of 6%; measure on a quiet machine"):
        run_gate(_run(vague), update=True, reason="why not")
    assert not (tmp_path / "baseline").exists()


def test_a_gpus_baseline_is_named_for_its_model():
    assert gate.kind(machine(gpu=None)) == "cpu"
    assert gate.kind(machine(gpu="NVIDIA H200")) == "nvidia-h200"


def test_every_baseline_in_the_repository_loads():
    for path in Path("results/baseline").glob("*.json"):
        assert gate.load(path).cases


ROUNDS, CASES = 90, "abc"


def _noisy(rng, slower=1.0):
    """Return a run as scattered as on 2 CPU cores, where a ratio's quartiles were 4 to 12 % apart."""

    def arm():
        between_runs = rng.normal(0, 0.01)  # of a ratio then 1.4 %, as measured; more than its interval knows of
        return np.exp(between_runs + 0.05 * rng.standard_t(3, ROUNDS))

    return _run(*(_record(name, slower=slower, noise={scheme: arm() for scheme in SPEEDUPS}) for name in CASES))


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(speedup, "ratio_interval", partial(ratio_interval, resamples=299))


def _gate_passes(rng, slower=1.0):
    baseline = gate.baseline_of(_noisy(rng), "before")
    first = gate.judge(_noisy(rng, slower), baseline)
    rows = gate.confirm(first, gate.judge(_noisy(rng, slower), baseline))
    return not any(row.verdict in gate.FAILING for row in rows)


def test_the_same_against_the_same_passes_in_99_of_100_runs(quickly):
    rng = np.random.default_rng(0)
    assert sum(_gate_passes(rng) for _ in range(150)) >= 149


def test_a_loss_of_12_percent_is_found_in_95_of_100_runs(quickly):
    rng = np.random.default_rng(1)
    assert sum(not _gate_passes(rng, slower=1 / 0.88) for _ in range(100)) >= 95
