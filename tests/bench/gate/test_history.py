import json
import subprocess

import pytest

from bench import gate
from bench.gate.baseline import write
from bench.gate.history import collect, past
from osgan.errors import InputError
from tests.bench.gate.made import record, run

STEPPED = [1.0] * 6 + [1.12] * 5


def _git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def baselines(tmp_path):
    """A repository with two baselines in its past and a third in the folder, uncommitted."""
    folder = tmp_path / "repository" / "baseline"
    folder.mkdir(parents=True)
    _git(folder, "init")
    for day, slower in enumerate((1.0, 1.02, 1.04), 1):
        made = gate.baseline_of(run(record(slower=slower), started=f"2026-10-0{day}T00:00:00Z"), f"number {day}")
        write(folder / "cpu.json", made)
        if day < 3:
            _git(folder, "add", ".")
            _git(folder, "commit", "-m", str(day))
    return folder


def test_a_series_is_of_one_case_scheme_and_machine_in_the_order_of_time(kept, tmp_path):
    kept(STEPPED, day=3)
    results = kept([1.0] * 3, cpu="Other CPU", day=2)
    series, remarks = collect(results, tmp_path / "none")
    assert remarks == []
    assert len(series) == 2 * 2 * 3
    assert {len(one.points) for one in series if one.machine == "Some CPU, 2 threads"} == {11}
    assert {len(one.points) for one in series if one.machine == "Other CPU, 2 threads"} == {3}
    for one in series:
        assert [point.when for point in one.points] == sorted(point.when for point in one.points)
        assert one.scheme != "one_stage"
        assert one.band is None


def test_a_step_is_found_in_the_case_that_has_it_and_at_its_commit(kept, tmp_path):
    series, _ = collect(kept(STEPPED), tmp_path / "none")
    stepped = {(one.case, one.scheme): one for one in series if one.steps}
    assert set(stepped) == {("a", "two_stage"), ("a", "two_stage_reused_frozen")}
    (step,) = stepped["a", "two_stage"].steps
    assert stepped["a", "two_stage"].points[step.index].commit == "01c0000006"
    assert step.change == pytest.approx(1 / 1.12 - 1, abs=0.02)


def test_baselines_that_git_remembers_are_points_too(kept, tmp_path, baselines):
    series, _ = collect(kept([1.0] * 2), baselines)
    (one,) = (one for one in series if (one.case, one.scheme) == ("a", "two_stage"))
    assert [point.source for point in one.points] == ["baseline"] * 3 + ["run"] * 2
    newest = 1.4 / 1.04
    assert one.points[2].speedup.estimate == pytest.approx(newest)
    assert one.band == pytest.approx((0.94 * newest, 1.06 * newest))
    (control,) = (one for one in series if (one.case, one.scheme) == ("a", "control"))
    assert [point.source for point in control.points] == ["run"] * 2


def test_a_baseline_of_a_run_that_is_kept_is_one_point(tmp_path, kept):
    from bench import results

    folder = kept([1.0])
    measured = results.load(next((folder / "regress").iterdir()))
    (tmp_path / "baseline").mkdir()
    write(tmp_path / "baseline" / "cpu.json", gate.baseline_of(measured, "this one"))
    series, _ = collect(folder, tmp_path / "baseline")
    assert {len(one.points) for one in series} == {1}
    assert {one.points[0].source for one in series} == {"run"}


def test_the_past_of_a_file_without_git_is_the_file(tmp_path, baselines):
    assert [baseline.reason for baseline in past(baselines / "cpu.json")] == ["number 1", "number 2", "number 3"]
    alone = tmp_path / "alone.json"
    alone.write_text((baselines / "cpu.json").read_text())
    assert [baseline.reason for baseline in past(alone)] == ["number 3"]
    alone.write_text("{broken")
    assert past(alone) == []


def test_what_cannot_be_read_is_said_and_left_out(kept, tmp_path):
    folder = kept([1.0] * 2)
    broken = folder / "regress" / "20261102T000000Z_broken"
    broken.mkdir()
    (broken / "run.json").write_text(json.dumps({"format": 99}))
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "cpu.json").write_text("{broken")
    series, remarks = collect(folder, tmp_path / "baseline")
    assert {len(one.points) for one in series} == {2}
    assert "has format 99" in remarks[0]
    assert "cannot be read" in remarks[1]


def test_nothing_at_all_is_a_mistake(tmp_path):
    with pytest.raises(InputError, match=r"no run of the gate in .* make one with: python -m bench regress"):
        collect(tmp_path, tmp_path)
