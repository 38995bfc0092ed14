import json
import math
from pathlib import Path

import pytest

from bench import gate, results
from bench.analysis import speedup, targets, time_to_quality
from osgan.errors import InputError

FIXTURES = Path(__file__).parents[1] / "fixtures"


def _manifest(cases=("a", "b")):
    machine = {"gpu": None, "cpu": "Some CPU (R) @ 2 GHz", "commit": "abc", "dirty": True}
    return {"suite": {"name": "s"}, "cases": list(cases), "machine": machine}


def _record(name):
    return {"name": name, "status": "ok", "arms": {}}


@pytest.fixture
def run(tmp_path):
    return results.create(tmp_path, _manifest(), "20260101T000000Z")


def test_a_run_is_named_for_time_machine_and_commit(run):
    assert run.name == "20260101T000000Z_Some-CPU-R-2-GHz_abc-dirty"
    assert run.parent.name == "s"


def test_what_is_appended_is_read_back_in_the_suites_order(run):
    results.append(run, _record("b"))
    results.append(run, _record("a"))
    assert [record["name"] for record in results.load(run).cases] == ["a", "b"]


def test_a_number_that_is_not_finite_is_null(run):
    results.append(run, {**_record("a"), "times": [1.0, math.nan, math.inf]})
    assert results.load(run).cases[0]["times"] == [1.0, None, None]
    assert "NaN" not in (run / "cases.jsonl").read_text()


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_line_cut_short_is_left_out_and_repaired(run, cut):
    results.append(run, _record("a"))
    results.append(run, _record("b"))
    file = run / "cases.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    loaded = results.load(run)
    assert [record["name"] for record in loaded.cases][:1] == ["a"]
    assert results.repair(run)
    results.append(run, _record("b"))
    assert [record["name"] for record in results.load(run).cases] == ["a", "b"]
    assert not results.repair(run)


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(run):
    results.append(run, _record("a"))
    with (run / "cases.jsonl").open("a") as file:
        file.write("{broken\n")
    results.append(run, _record("b"))
    with pytest.raises(InputError, match="line 2 is not JSON"):
        results.load(run)


def test_a_case_that_stands_twice_is_an_error(run):
    results.append(run, _record("a"))
    results.append(run, _record("a"))
    with pytest.raises(InputError, match="'a' a second time"):
        results.load(run)


@pytest.mark.parametrize("version", [0, 99, None, "1"])
def test_another_format_is_refused(run, version):
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**manifest, "format": version}))
    with pytest.raises(InputError, match="reads format"):
        results.load(run)


def test_a_folder_without_a_manifest_is_no_run(tmp_path):
    with pytest.raises(InputError, match="is not a run"):
        results.load(tmp_path)


def test_two_writers_are_refused(run):
    with results.locked(run), pytest.raises(InputError, match="another process"), results.locked(run):
        pass


def test_a_run_never_overwrites_another(tmp_path, run):
    with pytest.raises(InputError, match="exists"):
        results.create(tmp_path, _manifest(), "20260101T000000Z")


def test_the_newest_run_is_found_by_its_stamp(tmp_path, run):
    later = results.create(tmp_path, _manifest(), "20260102T000000Z")
    assert results.newest(tmp_path) == later
    with pytest.raises(InputError, match="no run"):
        results.newest(tmp_path, "other")


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("format-*/*/*")), ids=lambda path: path.parent.name)
def test_every_format_ever_written_still_loads(path):
    assert results.load(path).cases


@pytest.mark.parametrize("name", ["../../etc", "a/b", "zip:/x/y.zip", "é ü", "", "...", "x" * 500])
def test_a_slug_is_a_plain_file_name(name):
    slug = results.slug(name)
    assert slug
    assert not set(slug) & set("/\\: ")
    assert not slug.startswith(".")
    assert len(slug) <= 120


def test_a_full_disk_is_said_and_loses_nothing(run):
    (run / "cases.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"No space left on device; .* --resume"):
        results.append(run, _record("a"))


def _machine(gpu=None, index=0, threads=2, torch="2.11", **more):
    device = f"cuda:{index}" if gpu else "cpu"
    return {"device": device, "gpu": gpu, "cpu": "C", "threads": threads, "libraries": {"torch": torch}, **more}


def _made_of(tmp_path, cases, quality=(), here=None):
    manifest = _manifest([name for name, _ in cases]) | {"machine": here or _machine(commit="abc")}
    timed, trained = ([_record(name) | {"machine": described} for name, described in rows] for rows in (cases, quality))
    return results.Run(tmp_path, manifest, timed, [], trained)


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        (_machine("A"), _machine("A", index=1), 1),
        (_machine(), _machine(load_1min=3.0, commit="def", memory_mib=5), 1),
        (_machine("A"), _machine("B"), 2),
        (_machine("A"), _machine(), 2),
        (_machine(threads=1), _machine(threads=2), 2),
        (_machine(torch="2.11"), _machine(torch="2.12"), 2),
    ],
)
def test_machines_are_told_apart_by_what_moves_a_time(tmp_path, one, other, parts):
    run = _made_of(tmp_path, [("a", one), ("b", other)])
    assert len(results.by_machine(run)) == parts
    if parts == 1:
        results.check_one_machine(run)
    else:
        with pytest.raises(InputError, match=r"2 machines \(.*\); results of different machines are never pooled"):
            results.check_one_machine(run)


def test_each_part_of_a_run_has_the_rows_of_its_machine_and_no_others(tmp_path):
    a, b = _machine("A"), _machine("B")
    cases = [("x", b), ("y", a), ("z", b), ("never measured", None)]
    run = _made_of(tmp_path, cases, [("y / plain / seed 0", b), ("y / plain / seed 1", a)])
    first, second = results.by_machine(run)
    assert [part.manifest["machine"] for part in (first, second)] == [b, a]
    assert [[record["name"] for record in part.cases] for part in (first, second)] == [
        ["x", "z", "never measured"],
        ["y"],
    ]
    assert [[record["name"] for record in part.quality] for part in (first, second)] == [
        ["y / plain / seed 0"],
        ["y / plain / seed 1"],
    ]
    assert [part.manifest["cases"] for part in (first, second)] == [["x", "y", "z", "never measured"], ["y"]]
    assert len(run.cases) == sum(len(part.cases) for part in (first, second))


def test_the_run_of_a_cluster_is_read_back_by_machine():
    (path,) = FIXTURES.glob("format-3/cluster/*")
    parts = results.by_machine(results.load(path))
    assert [part.manifest["machine"]["cpu"] for part in parts] == ["Test Machine", "Other Machine"]
    assert [[record["case"]["loss"] for record in part.cases] for part in parts] == [["hinge", "wgan"], ["lsgan"]]


def test_a_run_of_one_machine_is_its_one_part(tmp_path):
    old = _made_of(tmp_path, [("a", None), ("b", None)])
    assert results.by_machine(old) == [old]
    gpu = _machine("A")
    elsewhere = _made_of(tmp_path, [("a", gpu), ("b", gpu), ("never measured", None)])
    (part,) = results.by_machine(elsewhere)
    assert part.manifest == elsewhere.manifest | {"machine": gpu}
    assert part.cases == elsewhere.cases


@pytest.mark.parametrize("pool", [speedup.summarise, targets.outcomes, time_to_quality.studies])
def test_nothing_pools_a_run_of_two_machines(tmp_path, pool):
    run = _made_of(tmp_path, [("a", _machine("A")), ("b", _machine("B"))])
    with pytest.raises(InputError, match="never pooled"):
        pool(run)


def test_the_gate_pools_no_machines(tmp_path):
    run = _made_of(tmp_path, [("a", _machine("A")), ("b", _machine("B"))])
    with pytest.raises(InputError, match="never pooled"):
        gate.judge(run, None)
    with pytest.raises(InputError, match="never pooled"):
        gate.baseline_of(run, "why")


@pytest.mark.parametrize("cut", [results.CASES, results.QUALITY])
def test_either_file_cut_short_is_repaired_and_gone_on_with(run, cut):
    job = {"name": "a / plain / seed 0", "status": "ok", "seed": 0, "arms": {}}
    results.append(run, _record("a"))
    results.append(run, job, results.QUALITY)
    last = (
        {"name": "b / plain / seed 0", "status": "ok", "seed": 0, "arms": {}}
        if cut == results.QUALITY
        else _record("b")
    )
    results.append(run, last, cut)
    file = run / cut
    file.write_bytes(file.read_bytes()[:-5])
    loaded = results.load(run)
    assert [record["name"] for record in (*loaded.cases, *loaded.quality)] == ["a", "a / plain / seed 0"]
    assert f"{cut}: line 2 was cut short" in loaded.remarks[0]
    assert results.repair(run)
    results.append(run, last, cut)
    again = results.load(run)
    assert [record["name"] for record in (again.quality if cut == results.QUALITY else again.cases)][-1] == last["name"]
    assert not again.remarks
    assert not results.repair(run)


def test_both_files_cut_short_at_once_are_both_repaired(run):
    for name in (results.CASES, results.QUALITY):
        (run / name).write_text('{"name": "cut sho')
    assert results.repair(run)
    assert [(run / name).read_text() for name in (results.CASES, results.QUALITY)] == ["", ""]


def test_seeds_are_read_back_in_the_order_of_the_cases_then_of_their_names(run):
    names = ["b / plain / seed 0", "a / r1 / seed 0", "a / plain / seed 1", "a / plain / seed 0"]
    for name in names:
        results.append(run, _record(name), results.QUALITY)
    assert [record["name"] for record in results.load(run).quality] == [*sorted(names[1:]), names[0]]


def test_a_metric_that_is_not_finite_is_null(run):
    points = [{"images": 8, "seconds": 0.5, "average": {"FD": math.nan}, "raw": {"FD": math.inf}}]
    results.append(run, _record("a / plain / seed 0") | {"arms": {"one_stage": {"points": points}}}, results.QUALITY)
    (point,) = results.load(run).quality[0]["arms"]["one_stage"]["points"]
    assert (point["average"]["FD"], point["raw"]["FD"]) == (None, None)
