import json
from pathlib import Path

import numpy as np
import pytest

from bench import gate
from bench.gate.baseline import FORMAT_VERSION, TOLERANCE, write
from osgan.errors import InputError
from tests.bench.gate.made import HELD, record, run
from tests.bench.rows import machine

SCATTERED = {"two_stage": np.exp(np.linspace(-0.11, 0.11, 20))}


def _file(tmp_path, content):
    path = tmp_path / "cpu.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


BASELINE = gate.baseline_of(run(record()), "a test's")


def test_a_baseline_is_read_back_as_written(tmp_path):
    path = tmp_path / "baseline" / "cpu.json"
    write(path, BASELINE)
    assert gate.load(path) == BASELINE
    assert BASELINE.format == FORMAT_VERSION == 2
    assert [file.name for file in path.parent.iterdir()] == ["cpu.json"]


def test_the_control_is_of_no_baseline():
    assert list(BASELINE.cases["a"].work) == HELD
    assert "control" not in BASELINE.cases["a"].speedups


def test_every_baseline_in_the_repository_loads():
    paths = list(Path("results/baseline").glob("*.json"))
    assert paths
    for path in paths:
        assert gate.load(path).cases


def test_format_1_has_the_files_tolerance_for_every_case(tmp_path):
    old = BASELINE.model_dump() | {"format": 1, "tolerance": 0.07}
    for case in old["cases"].values():
        del case["tolerance"]
    assert gate.load(_file(tmp_path, old)).tolerance_of("a") == 0.07


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "has format 3, this version of bench reads 1 and 2"),
        ({"format": None}, "has format None"),
        ({"tolerance": 1.5}, "tolerance: Input should be less than 1"),
        ({"cases": {"a": {}}}, r"cases\.a\.speedups: Field required"),
        ({"cases": {"a": {"speedups": {}, "work": {}, "tolerance": 0}}}, r"cases\.a\.tolerance: Input should be gre"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_refused_with_the_remedy(tmp_path, change, message):
    with pytest.raises(InputError, match=f"{message}.*write one with: python -m bench regress --update"):
        gate.load(_file(tmp_path, BASELINE.model_dump() | change))


@pytest.mark.parametrize("text", ["{broken", "[" * 100_000, "[]"])
def test_a_broken_file_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"cannot be read|has format None"):
        gate.load(_file(tmp_path, text))
    with pytest.raises(InputError, match="no baseline"):
        gate.load(tmp_path / "absent.json")


def test_a_case_that_scatters_gets_a_tolerance_of_twice_its_widest_half_width():
    assert BASELINE.cases["a"].tolerance is None
    found = gate.baseline_of(run(record(noise=SCATTERED), record("b")), "scattered")
    widest = max(interval.half_width for interval in found.cases["a"].speedups.values())
    assert widest > TOLERANCE / 2
    assert found.tolerance_of("a") == pytest.approx(2 * widest, abs=5e-4)
    assert (found.cases["b"].tolerance, found.tolerance_of("b")) == (None, TOLERANCE)


def test_an_update_derives_a_tolerance_anew_and_keeps_one_that_was_set_by_hand():
    scattered = gate.baseline_of(run(record(noise=SCATTERED)), "scattered")
    assert gate.baseline_of(run(record()), "quiet", scattered).cases["a"].tolerance is None
    for before in (scattered, BASELINE):
        by_hand = before.model_copy(
            update={"cases": {"a": before.cases["a"].model_copy(update={"tolerance": 0.2})}, "tolerance": 0.05}
        )
        after = gate.baseline_of(run(record()), "quiet", by_hand)
        assert (after.cases["a"].tolerance, after.tolerance) == (0.2, 0.05)


def test_a_run_with_a_hole_or_a_vague_interval_is_no_baseline():
    for holed in (run(record("a"), names=["a", "b"]), run(record(status="failed", reason="NaN"))):
        with pytest.raises(InputError, match="cannot be a baseline"):
            gate.baseline_of(holed, "why not")
    vague = run(record(noise={"two_stage": np.exp(np.linspace(-0.5, 0.5, 20))}))
    with pytest.raises(InputError, match=r"two_stage: .* vaguer than the tolerance of 6%; measure on a quiet machine"):
        gate.baseline_of(vague, "why not")
    wide = BASELINE.model_copy(update={"cases": {"a": BASELINE.cases["a"].model_copy(update={"tolerance": 0.5})}})
    assert gate.baseline_of(vague, "allowed by hand", wide).cases["a"].tolerance == 0.5


def test_a_gpus_baseline_is_named_for_its_model():
    assert gate.kind(machine()) == "cpu"
    assert gate.kind(machine(gpu="NVIDIA H200")) == "nvidia-h200"
