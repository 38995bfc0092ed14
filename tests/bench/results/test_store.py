import json
import re
from pathlib import Path

import pytest

from bench import gate, results
from bench.analysis import speedup, targets, time_to_quality
from osgan.errors import InputError
from tests.bench.rows import case_row, machine, manifest, quality_row, run_of, with_

FIXTURES = Path(__file__).parents[1] / "fixtures"


def _manifest(cases=("a", "b"), **more):
    return manifest(cases, on=machine(cpu="Some CPU (R) @ 2 GHz", dirty=True), **more)


def quality_row_named(job, **more):
    name, variant, seed = job.split(" / ")
    return quality_row(name, int(seed.removeprefix("seed ")), variant, **more)


@pytest.fixture
def run(tmp_path):
    return results.create(tmp_path, _manifest(), "20260101T000000Z")


def test_a_run_is_named_for_time_machine_and_commit(run):
    assert run.name == "20260101T000000Z_Some-CPU-R-2-GHz_abc-dirty"
    assert run.parent.name == "s"


def test_what_is_appended_is_read_back_in_the_suites_order(run):
    results.append(run, case_row("b"))
    results.append(run, case_row("a"))
    assert [row.name for row in results.load(run).cases] == ["a", "b"]


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_line_cut_short_is_left_out_and_repaired(run, cut):
    results.append(run, case_row("a"))
    results.append(run, case_row("b"))
    file = run / "cases.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    loaded = results.load(run)
    assert [row.name for row in loaded.cases][:1] == ["a"]
    assert results.repair(run)
    results.append(run, case_row("b"))
    assert [row.name for row in results.load(run).cases] == ["a", "b"]
    assert not results.repair(run)


def test_a_broken_line_in_the_middle_is_a_remark_with_its_number_and_the_others_are_there(run):
    results.append(run, case_row("a"))
    with (run / "cases.jsonl").open("a") as file:
        file.write("{broken\n")
    results.append(run, case_row("b"))
    loaded = results.load(run)
    assert [row.name for row in loaded.cases] == ["a", "b"]
    (remark,) = loaded.remarks
    assert re.search(r"cases\.jsonl: line 2 is no row: Invalid JSON: .*; its case counts as not finished", remark)


def test_of_a_row_that_stands_twice_the_first_is_kept(run):
    for rounds in (7, 8):
        results.append(run, case_row("a", rounds=rounds))
    loaded = results.load(run)
    assert [row.rounds for row in loaded.cases] == [7]
    assert "line 2 holds 'a' a second time; the first is kept" in loaded.remarks[0]


def test_a_case_has_a_row_for_each_of_its_processes(run):
    for name, process in (("b", 0), ("a", 1), ("a", 0)):
        results.append(run, case_row(name, process=process))
    loaded = results.load(run)
    assert not loaded.remarks
    assert [(row.name, row.process) for row in loaded.cases] == [("a", 0), ("a", 1), ("b", 0)]
    assert {name: len(rows) for name, rows in loaded.by_case().items()} == {"a": 2, "b": 1}


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


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("format-*/*/*")), ids=lambda path: path.parent.name)
def test_cases_of_before_format_5_are_not_augmented(path):
    run = results.load(path)
    plain = {"none"} | ({"diffaugment+policy='translation'"} if run.manifest.format == 5 else set())
    assert {row.case.augmentation for row in run.rows} == plain


def test_every_format_has_a_fixture():
    assert {path.name for path in FIXTURES.iterdir()} == {f"format-{n + 1}" for n in range(results.FORMAT_VERSION)}


@pytest.mark.parametrize("name", ["../../etc", "a/b", "zip:/x/y.zip", "é ü", "", "...", "x" * 500])
def test_a_slug_is_a_plain_file_name(name):
    slug = results.slug(name)
    assert slug
    assert not set(slug) & set("/\\: ")
    assert not slug.startswith(".")
    assert len(slug) <= 120


def test_a_slug_that_was_cut_or_is_to_be_unique_tells_names_apart():
    long = "x" * 200
    assert results.slug(f"{long} seed 0") != results.slug(f"{long} seed 1")
    assert results.slug("a b") == results.slug("a/b") == "a-b"
    assert len({results.slug(name, unique=True) for name in ("a b", "a/b", "a-b", "a  b")}) == 4
    assert results.slug("a-b", unique=True) == "a-b"


def test_a_full_disk_is_said_and_loses_nothing(run):
    (run / "cases.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"No space left on device; .* --resume"):
        results.append(run, case_row("a"))


def _machine(gpu=None, index=0, threads=2, torch="2.11", **more):
    device = f"cuda:{index}" if gpu else "cpu"
    return machine(device=device, gpu=gpu, cpu="C", threads=threads, libraries={"torch": torch}, **more)


def _made_of(tmp_path, cases, quality=(), here=None):
    timed = [case_row(name, machine=on) for name, on in cases]
    trained = [quality_row_named(name, machine=on) for name, on in quality]
    names = [name for name, _ in cases]
    return run_of(*timed, quality=trained, path=tmp_path, cases=names, on=here or _machine(commit="abc"))


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        (_machine("A"), _machine("A", index=1), 1),
        (_machine(), _machine(load_1min=3.0, commit="def", memory_mib=5), 1),
        (_machine("A"), _machine("B"), 2),
        (_machine("A"), _machine(), 2),
        (_machine(threads=1), _machine(threads=2), 2),
        (_machine(torch="2.11"), _machine(torch="2.12"), 2),
        (_machine("A", driver="1"), _machine("A", driver="2"), 2),
        (_machine("A", driver="1"), _machine("A"), 1),  # an older format, or a library that is not there
        (_machine("A", gpu_power_limit_watts=300.0), _machine("A", gpu_power_limit_watts=700.0), 2),
        (_machine("A", cudnn=90100), _machine("A", cudnn=90200), 2),
        (_machine(environment={"KMP_INIT_AT_FORK": "FALSE"}), _machine(environment={}), 1),  # scikit-learn was imported
        (_machine(cpu_governor="performance"), _machine(cpu_governor="powersave"), 2),
        (_machine(environment={"OMP_WAIT_POLICY": "PASSIVE"}), _machine(environment={"OMP_WAIT_POLICY": None}), 2),
        (_machine(environment={"OMP_WAIT_POLICY": None}), _machine(environment={}), 1),
        (_machine(environment={"OMP_WAIT_POLICY": "PASSIVE"}), _machine(), 1),
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
    assert [part.manifest.machine for part in (first, second)] == [b, a]
    assert [[row.name for row in part.cases] for part in (first, second)] == [
        ["x", "z", "never measured"],
        ["y"],
    ]
    assert [[row.name for row in part.quality] for part in (first, second)] == [
        ["y / plain / seed 0"],
        ["y / plain / seed 1"],
    ]
    assert [part.manifest.cases for part in (first, second)] == [["x", "y", "z", "never measured"], ["y"]]
    assert len(run.cases) == sum(len(part.cases) for part in (first, second))


def test_the_run_of_a_cluster_is_read_back_by_machine():
    (path,) = FIXTURES.glob("format-3/cluster/*")
    parts = results.by_machine(results.load(path))
    assert [part.manifest.machine.cpu for part in parts] == ["Test Machine", "Other Machine"]
    assert [[row.case.loss for row in part.cases] for part in parts] == [["hinge", "wgan"], ["lsgan"]]


def test_a_run_of_one_machine_is_its_one_part(tmp_path):
    old = _made_of(tmp_path, [("a", None), ("b", None)])
    assert results.by_machine(old) == [old]
    gpu = _machine("A")
    elsewhere = _made_of(tmp_path, [("a", gpu), ("b", gpu), ("never measured", None)])
    (part,) = results.by_machine(elsewhere)
    assert part.manifest == with_(elsewhere.manifest, machine=gpu)
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
    results.append(run, case_row("a"))
    results.append(run, quality_row("a"))
    last = quality_row("b") if cut == results.QUALITY else case_row("b")
    results.append(run, last)
    file = run / cut
    file.write_bytes(file.read_bytes()[:-5])
    loaded = results.load(run)
    assert [row.name for row in loaded.rows] == ["a", "a / plain / seed 0"]
    assert f"{cut}: line 2 was cut short" in loaded.remarks[0]
    assert results.repair(run)
    results.append(run, last)
    again = results.load(run)
    assert [row.name for row in (again.quality if cut == results.QUALITY else again.cases)][-1] == last.name
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
        results.append(run, quality_row_named(name))
    assert [row.name for row in results.load(run).quality] == [*sorted(names[1:]), names[0]]
