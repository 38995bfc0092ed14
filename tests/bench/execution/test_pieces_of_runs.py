"""Runs in pieces and runs for quality, through the command: stopped, killed, resumed, shown."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from types import SimpleNamespace

import pytest
import torch

from bench import cli, results
from bench import suite as suites
from bench.execution import budget, runner
from osgan.errors import InputError
from tests.bench.rows import quality_row

TINY = """
name: tiny
schemes: [two_stage, one_stage]
matrix: {dataset: digits, architecture: dcgan32+width=4, loss: [minimax, hinge, lsgan, wgan, rpgan], batch_size: 4}
timing: {budget_s: 0.2, min_rounds: 5, round_ms: 1, warmup_s: 0.1, replicates: 1, preheat_s: 0}
"""
QUALITY = """
name: tiny
schemes: [two_stage, one_stage]
matrix: {dataset: digits, architecture: dcgan32+resolution=16+width=4, loss: hinge, batch_size: 8}
timing: null
quality:
  images: 32
  evaluate_every: 16
  seeds: 2
  extractor: efficientnet-lite0+size=64
  generated_images: 8
  real_images: 16
  targets: [1.0, 2.0]
  tune: {images: 8, grid: {discriminator_lr: [1.0e-4, 2.0e-4]}}
samples: {images: 4}
"""


@pytest.fixture
def write(tmp_path):
    def suite(text):
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return str(path)

    return suite


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    """Run a command in this process and return its exit status and what it printed."""

    def run(command, *arguments):
        places = ["--results", str(tmp_path / "results")]
        places += ["--reports", str(tmp_path / "reports")] if command == "run" else []
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["bench", command, *map(str, arguments), *places])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().out

    return run


@pytest.fixture
def canned(monkeypatch):
    """Let cases take 100 seconds of a clock that stands still otherwise, and nothing of ours; returns their names."""
    clock = SimpleNamespace(now=0.0)
    done = []

    def measure(job, show):
        done.append(job.name)
        clock.now += 100.0
        chance = itertools.cycle([1.0, 1.01, 0.99])
        arm = lambda ms: {  # noqa: E731
            "status": "ok",
            "reason": None,
            "wall_ms": [ms * next(chance) for _ in range(10)],
            "steady": True,
        }
        arms = {"two_stage": arm(1.4), "one_stage": arm(1.0)}
        facts = {"name": job.name, "case": job.case.model_dump(), "status": "ok", "reason": None, "arms": arms}
        return facts | {"rounds": 20, "steps_per_round": 1, "ended_by": "budget_s", "took_s": 100.0, "started": NOW}

    monkeypatch.setattr(runner, "perform", measure)
    monkeypatch.setattr(budget.Piece.__init__, "__defaults__", (None, lambda: clock.now))
    return done


NOW = "2026-11-27T10:00:00+00:00"


def _run_folder(tmp_path):
    (run,) = (tmp_path / "results" / "tiny").iterdir()
    return run


def _names(run, file="cases.jsonl"):
    return [json.loads(line)["name"] for line in (run / file).read_text().splitlines()]


def test_a_run_in_pieces_does_every_case_once(here, write, tmp_path, canned):
    status, out = here("run", write(TINY), "--stop-after", "4")  # 240 s: two cases of 100 s
    run = _run_folder(tmp_path)
    assert status == 0
    assert out.splitlines()[-1] == f"python -m bench run --resume {run} --stop-after 4"
    assert len(canned) == 2
    report = tmp_path / "reports" / "tiny" / run.name / "report.md"
    assert report.read_text().count("not run yet") == 3
    status, out = here("run", "--resume", run, "--stop-after", "4")
    assert (status, len(canned)) == (0, 4)
    assert "--resume" in out.splitlines()[-1]
    status, out = here("run", "--resume", run, "--stop-after", "4")
    assert status == 0
    assert out.splitlines()[-1].startswith("report: ")
    assert canned == _names(run) == json.loads((run / "run.json").read_text())["cases"]
    assert "not run yet" not in report.read_text()


def test_a_piece_too_short_for_any_case_still_gets_on(here, write, tmp_path, canned):
    for done in range(1, 4):
        resumed = ["--resume", _run_folder(tmp_path)] if done > 1 else [write(TINY)]
        status, _ = here("run", *resumed, "--stop-after", "0")
        assert (status, len(canned)) == (0, done)


def test_without_stop_after_nothing_is_cut(here, write, tmp_path, canned):
    status, out = here("run", write(TINY))
    assert (status, len(canned)) == (0, 5)
    assert "--resume" not in out


def test_a_dry_run_says_what_can_be_known_of_trainings(here, write, tmp_path):
    status, out = here("run", write(QUALITY), "--dry-run", "--device", "cpu")
    assert status == 0
    assert out.splitlines()[1] == (
        "2 trainings of 2 arms on cpu, 32 images each and 1 searches of 2 arms on cpu, 2 trainings of 8 images an arm "
        "each: how long one takes is known when the first has run, each is "
        "ended after 60.0 minutes"
    )
    assert len(out.splitlines()) == 2
    assert not (tmp_path / "results").exists()


def test_seeds_survive_a_kill_and_their_table_is_shown(write, here, tmp_path, monkeypatch):
    places = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "bench", "run", write(QUALITY), "--device", "cpu", *places]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("results/tiny/*/quality.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = _run_folder(tmp_path)
    before = (run / "quality.jsonl").read_bytes()
    assert 1 <= before.count(b"\n") < 3
    with (run / "quality.jsonl").open("a") as file:
        file.write('{"name": "cut sho')
    monkeypatch.setenv("HOME", str(tmp_path))
    status, ended = here("run", "--device", "cpu", "--resume", run)
    assert status == 0
    case = "digits dcgan32+resolution=16+width=4 hinge 8 fp32 eager"
    assert (run / "quality.jsonl").read_bytes().startswith(before)
    assert _names(run, "quality.jsonl") == [f"{case} / plain / {kind}" for kind in ("tune", "seed 0", "seed 1")]
    records = [json.loads(line) for line in (run / "quality.jsonl").read_text().splitlines()]
    chosen = {scheme: found["setting"] for scheme, found in records[0]["tuned"].items()}
    for record in records[1:]:
        assert {scheme: arm["setting"] for scheme, arm in record["arms"].items()} == chosen
    status, out = here("show")
    assert status == 0
    for line in ("plain: FD-EfficientNetLite0", "final value", "one_stage", "of 2 seeds"):
        assert line in out
        assert line in ended
    assert "geometric mean" not in out + ended
    assert "No two-stage baseline" not in out + ended


def _made(write, here, tmp_path, **changes):
    """Make a run of this machine with its first case done, and change its manifest."""
    here("run", write(TINY), "--stop-after", "0", "--device", "cpu")
    run = _run_folder(tmp_path)
    manifest = json.loads((run / "run.json").read_text())
    manifest["machine"] |= changes.pop("machine", {})
    (run / "run.json").write_text(json.dumps(manifest | changes))
    return run


def test_every_row_says_where_it_was_measured(here, write, tmp_path, canned):
    run = _made(write, here, tmp_path)
    (row,) = (json.loads(line) for line in (run / "cases.jsonl").read_text().splitlines())
    assert not results.differences(results.load(run).cases[0].machine, results.load(run).manifest.machine)
    assert datetime.fromisoformat(row["started"]).tzinfo
    assert (row["node"], row["beside"]) == (None, [])


CPU = torch.device("cpu")
ELSEWHERE = {"cpu": "Another CPU"}


def test_a_run_of_another_machine_is_gone_on_with_over_ray_alone(here, write, tmp_path, canned):
    run = _made(write, here, tmp_path, machine=ELSEWHERE)
    with pytest.raises(InputError, match="measured with cpu 'Another CPU'"):
        runner.resume(run, CPU)
    assert runner.resume(run, CPU, ray=True)[0].name == "tiny"


def test_a_run_made_with_ray_is_gone_on_with_anywhere(here, write, tmp_path, canned):
    run = _made(write, here, tmp_path, machine=ELSEWHERE, ray={"device": "cpu"})
    assert runner.resume(run, CPU)[0].name == "tiny"
    assert runner.resume(run, CPU, ray=True)[0].name == "tiny"
    with pytest.raises(InputError, match="measured with device 'cpu', this is 'cuda'"):
        runner.resume(run, torch.device("cuda:0"), ray=True)


def test_rows_of_two_machines_in_one_run_are_two_parts(here, write, tmp_path, canned):
    run = _made(write, here, tmp_path, ray={"device": "cpu"})
    (row,) = (json.loads(line) for line in (run / "cases.jsonl").read_text().splitlines())
    (run / "cases.jsonl").write_text(json.dumps(row | {"machine": row["machine"] | ELSEWHERE}) + "\n")
    suite, root = runner.resume(run, CPU)
    measured = runner.finish(run, suite, CPU, root)
    assert [len(part.cases) for part in results.by_machine(measured)] == [1, 4]


def test_a_run_whose_rows_do_not_say_where_they_were_measured_is_not_gone_on_with_over_ray(
    here, write, tmp_path, canned
):
    run = _made(write, here, tmp_path, format=2)
    assert runner.resume(run, CPU)[0].name == "tiny"
    with pytest.raises(InputError, match="rows that do not say where"):
        runner.resume(run, CPU, ray=True)


def test_a_seed_waits_for_its_search_and_takes_its_settings(write, tmp_path):
    asked = suites.load(write(QUALITY))
    search, seed, _ = runner._jobs(asked, asked.cases(), CPU, None, tmp_path)
    assert runner.prepared(search, {}) is search
    assert runner.prepared(seed, {}) is None
    rate = {"discriminator_lr": 1e-4}
    tuned = {
        "two_stage": {"trials": [{"setting": rate, "value": 9.0}], "setting": rate},
        "one_stage": {"trials": [{"setting": rate, "value": None, "reason": "broke"}], "setting": None},
    }
    ready = runner.prepared(seed, {search.name: quality_row(seed=None, tuned=tuned)})
    assert ready.settings == {"two_stage": {"discriminator_lr": 1e-4}}
    assert runner.prepared(seed, {search.name: quality_row(seed=None, status="failed")}).settings == {}


def test_a_setting_for_all_cases_waits_for_the_searches_of_all_and_comes_last(write, tmp_path):
    space = "{images: 8, space: {discriminator_lr: [1.0e-5, 1.0e-3]}, trials: 2}"
    text = re.sub(r"tune: .*", f"tune: {space}\n  variants: {{one: {{setting_of: own}}, own: {{}}}}", QUALITY)
    asked = suites.load(write(text.replace("loss: hinge", "loss: [hinge, nonsaturating]")))
    jobs = runner._jobs(asked, asked.cases(), CPU, None, tmp_path)
    assert [(job.case.loss, job.variant, job.seed, job.trial) for job in jobs] == [
        *((loss, "own", None, trial) if trial is not None else (loss, "own", seed, None)
          for loss in ("hinge", "nonsaturating") for trial, seed in ((0, 0), (1, 0), (None, 0), (None, 1))),
        *((loss, "one", seed, None) for loss in ("hinge", "nonsaturating") for seed in (0, 1)),
    ]  # fmt: skip
    searches = [job for job in jobs if job.seed is None]
    own, last = (next(job for job in jobs if job.variant == v and job.seed == 0) for v in ("own", "one"))
    assert own.waits_for == tuple(job.name for job in searches[:2])
    assert last.waits_for == tuple(job.name for job in searches)
    # The first setting is best for hinge, the second for both together; two_stage's second has no value in one case.
    values = {("one_stage", 0): (10.0, 90.0), ("one_stage", 1): (20.0, 20.0)}
    values |= {("two_stage", 0): (30.0, 30.0), ("two_stage", 1): (1.0, None)}
    done = {}
    for job in searches:
        which = [found.case.loss for found in searches].index(job.case.loss) // 2
        tuned = {
            scheme: {"trials": [{"setting": {"discriminator_lr": 1e-4 * (trial + 1)}, "value": found[which]}]}
            for (scheme, trial), found in values.items()
            if trial == job.trial
        }
        case = {"name": job.name, "case": job.case.model_dump(exclude_none=True), "variant": "own", "trial": job.trial}
        done[job.name] = results.row_of(case | {"seed": None, "status": "ok", "reason": None, "tuned": tuned})
        assert (runner.prepared(last, done) is None) == (len(done) < 4)
    chosen = {scheme: setting["discriminator_lr"] for scheme, setting in runner.prepared(last, done).settings.items()}
    assert chosen == {"one_stage": 2e-4, "two_stage": 1e-4}
    chosen = {scheme: setting["discriminator_lr"] for scheme, setting in runner.prepared(own, done).settings.items()}
    assert chosen == {"one_stage": 1e-4, "two_stage": 2e-4}
