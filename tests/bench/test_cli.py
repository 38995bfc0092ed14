import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
import torch

from bench import cli, results
from bench import suite as suites
from bench.execution import perform, runner, worker
from bench.suite.jobs import Job

TINY = """
name: tiny
schemes: [two_stage, one_stage]
matrix:
  - {dataset: digits, architecture: dcgan32+width=4, loss: [hinge, lsgan], batch_size: 4}
timing: {budget_s: 0.2, min_rounds: 5, round_ms: 1, warmup_s: 0.1, replicates: 1, preheat_s: 0}
samples: {steps: 12, images: 4}
"""


@pytest.fixture
def bench(tmp_path):
    def run(*arguments, background=False, **environment):
        places = _places(arguments[0], tmp_path)
        command = [sys.executable, "-m", "bench", *map(str, arguments), *places]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        if background:
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)

    return run


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    """Run a command in this process, without the seconds that PyTorch's import takes."""

    def run(arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments, *(_places(arguments[0], tmp_path))])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


def _places(command, tmp_path):
    kinds = {"run": ("results", "reports"), "report": ("results", "reports"), "show": ("results",)}
    return [word for kind in kinds.get(command, ()) for word in (f"--{kind}", str(tmp_path / kind))]


@pytest.fixture
def suite(tmp_path):
    def write(text=TINY):
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return path

    return write


def _records(tmp_path):
    (run,) = (tmp_path / "results" / "tiny").iterdir()
    return run, [json.loads(line) for line in (run / "cases.jsonl").read_text().splitlines()]


def test_a_run_from_suite_to_report(bench, suite, tmp_path):
    done = bench("run", suite())
    assert done.returncode == 0, done.stderr
    run, records = _records(tmp_path)
    assert [record["status"] for record in records] == ["ok", "ok"]
    for record in records:
        for arm in record["arms"].values():
            assert len(arm["wall_ms"]) == record["rounds"] >= 5
            assert all(time_ms > 0 for time_ms in arm["wall_ms"])
            assert arm["device_ms"] is None
            assert arm["flops"] > 0
            assert arm["operators"] > 50
            assert arm["kernels"] is None
            assert arm["joules_per_1000_images"] is None
            assert arm["peak_resident_growth_mib"] > 0
            assert sum(arm["phases_ms"].values()) > 0
            assert arm["steps_trained"] >= 12
            assert (run / arm["samples"]).is_file()
    page = tmp_path / "reports" / "tiny" / run.name / "index.html"
    lines = done.stdout.splitlines()
    assert lines[-1] == f"report: {page}"
    assert "geometric mean" in done.stdout
    assert "two_stage" in done.stdout
    assert page.is_file()
    assert bench("show").stdout.splitlines()[-1] in done.stdout
    assert bench("report").returncode == 0


def test_a_loss_that_diverges_is_a_failed_row_and_the_run_goes_on(bench, suite, tmp_path):
    matrix = 'loss: [hinge, "lsgan+r1=1e38"]'
    done = bench("run", suite(TINY.replace("loss: [hinge, lsgan]", matrix)))
    assert done.returncode == 1
    _, records = _records(tmp_path)
    assert [record["status"] for record in records] == ["ok", "failed"]
    assert "NonFiniteLossError" in records[1]["reason"]
    assert "at step" in records[1]["reason"]
    assert "NonFiniteLossError" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_killed_run_resumes_and_holds_every_case_once(bench, suite, tmp_path):
    process = bench("run", suite(TINY.replace("[hinge, lsgan]", "[hinge, lsgan, wgan]")), background=True)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("results/tiny/*/cases.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run, before = _records(tmp_path)
    assert 1 <= len(before) < 3
    with (run / "cases.jsonl").open("a") as file:
        file.write('{"name": "cut sho')
    done = bench("run", "--resume", run)
    assert done.returncode == 0, done.stderr
    _, after = _records(tmp_path)
    assert after[: len(before)] == before
    assert [record["case"]["loss"] for record in after] == ["hinge", "lsgan", "wgan"]


def test_a_worker_that_dies_is_a_failed_row(bench, suite, tmp_path):
    (tmp_path / "deadly.py").write_text(
        "import os, multiprocessing\n"
        "from osgan.nets.dcgan import dcgan\n"
        "def build(channels):\n"
        "    if multiprocessing.parent_process() is not None: os.kill(os.getpid(), 9)\n"
        "    return dcgan(resolution=32, width=4, channels=channels)\n"
    )
    done = bench("run", suite(TINY.replace("dcgan32+width=4", "[deadly:build, dcgan32+width=4]")), PYTHONPATH=tmp_path)
    assert done.returncode == 1
    _, records = _records(tmp_path)
    assert [record["status"] for record in records] == ["failed", "failed", "ok", "ok"]
    assert "killed by signal 9" in records[0]["reason"]
    assert len(records[0]["lost"]) == perform.RETRIES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "smokey"], "unknown suite 'smokey'. Did you mean 'smoke'?"),
        (["run", "SUITE", "--device", "cuda:7"], "device 'cuda:7' is not there"),
        (["run", "SUITE", "--device", "gpu"], "unknown device 'gpu'"),
        (["run", "SUITE", "--data", "/nowhere/at/all"], "/nowhere/at/all"),
        (["run", "--resume", "/nowhere/at/all"], "is not a run"),
        (["run", "SUITE", "--resume", "x", "--seed", "1"], "tiny.yaml' and --seed"),
        (["run", "--resume", "x", "--only", "a", "--exclude", "b"], "leave out --only and --exclude"),
        (["run", "--resume", "x", "--data", "/tmp"], "leave out --data"),
        (["run", "SUITE", "--seed", str(10**30)], "--seed"),
        (["run", "SUITE", "--seed", "-1"], "--seed"),
        (["show"], "no run"),
        (["report", "/nowhere/at/all"], "is not a run"),
    ],
)
def test_a_mistake_exits_2_with_a_message_and_writes_nothing(here, suite, tmp_path, arguments, message):
    path = str(suite())
    status, errors = here([path if argument == "SUITE" else argument for argument in arguments])
    assert status == 2
    assert message in errors
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 4", "batch_size: 5000", "1797"),
        ("digits", "digist", "unknown dataset 'digist'. Did you mean 'digits'?"),
        ("digits", "zip:/nowhere.zip", "nowhere.zip"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_said_before_anything_runs(here, suite, tmp_path, old, new, message):
    status, errors = here(["run", str(suite(TINY.replace(old, new)))])
    assert status == 2
    assert message in errors
    assert not (tmp_path / "results").exists()


def test_a_mistake_on_the_real_command_line_leaves_no_traceback(bench):
    done = bench("run", "smokey")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown suite 'smokey'")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_dry_run_prints_the_cases_and_writes_nothing(monkeypatch, capsys, suite, tmp_path):
    command = ["bench", "run", str(suite()), "--dry-run", "--exclude", "lsgan", *_places("run", tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code == 0
    assert lines[0] == "digits dcgan32+width=4 hinge 4 fp32 eager"
    assert lines[1].startswith("1 cases of 2 arms on")
    assert lines[1].endswith("1 processes in all, about 0.2 minutes, more where a step takes seconds")
    assert not (tmp_path / "results").exists()


def test_a_dry_run_of_a_resume_prints_what_is_left(monkeypatch, capsys, suite, tmp_path):
    asked = suites.load(str(suite(TINY.replace("replicates: 1", "replicates: 3"))))
    run = runner.start(asked, torch.device("cpu"), None, tmp_path / "results")
    hinge, lsgan = asked.cases()
    job = Job(asked, hinge, "cpu", None, run)
    results.append(run, results.row_of(worker.failed(job, "lost") | runner.ALONE))
    before = (run / "cases.jsonl").read_bytes()
    monkeypatch.setattr(sys, "argv", ["bench", "run", "--resume", str(run), "--dry-run", "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [lsgan.name, f"{lsgan.name} / process 2", f"{lsgan.name} / process 3"]
    assert lines[3].startswith("1 cases of 2 arms on cpu, 3 processes in all")
    assert (run / "cases.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest["suite"].update(wrong=1), "wrong"),
        (lambda manifest: manifest["suite"].update(seed="many"), "seed"),
        (lambda manifest: manifest.pop("suite"), "run.json"),
    ],
)
def test_a_resumed_run_with_another_manifest_is_named(here, suite, tmp_path, change, message):
    run = runner.start(suites.load(str(suite())), torch.device("cpu"), None, tmp_path / "results")
    manifest = json.loads((run / "run.json").read_text())
    change(manifest)
    (run / "run.json").write_text(json.dumps(manifest))
    status, errors = here(["run", "--resume", str(run), "--device", "cpu"])
    assert status == 2
    assert str(run / "run.json") in errors
    assert message in errors


def test_a_data_set_that_cannot_exist_is_said_in_a_dry_run(here, suite):
    status, errors = here(["run", str(suite(TINY.replace("digits", "digist"))), "--dry-run"])
    assert status == 2
    assert "unknown dataset 'digist'" in errors


@pytest.mark.parametrize("command", ["--help", "list"])
def test_what_measures_nothing_imports_no_pytorch(command):
    code = (
        "import sys; from bench import cli\ntry: cli.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, command], check=True, stdout=subprocess.DEVNULL, timeout=120)


def test_list_names_the_suites(bench):
    assert "quick" in bench("list").stdout


def is_at_work(process):
    """Whether a process has done more than begin, as the imports of a worker's take seconds."""
    with suppress(psutil.NoSuchProcess):
        return process.cpu_times().user > 2
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_run_without_a_traceback_and_nothing_is_lost(suite, tmp_path, number):
    places = _places("run", tmp_path)
    text = TINY.replace("budget_s: 0.2", "budget_s: 60")
    command = [sys.executable, "-m", "bench", "run", str(suite(text)), "--device", "cpu", *places]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:  # the tests run under nohup, say: a command that ignores a signal does not hear it
        signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    if before is signal.SIG_IGN:
        signal.signal(number, before)
    while not any(is_at_work(found) for found in psutil.Process(process.pid).children(recursive=True)):
        time.sleep(0.05)
    process.send_signal(number)
    out, errors = process.communicate(timeout=300)  # ends when every process that holds the pipes has ended
    assert "Traceback" not in errors
    (run,) = (tmp_path / "results" / "tiny").iterdir()
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert f"python -m bench run --resume {run}" in out
    assert {path.name for path in run.iterdir()} <= {"run.json", ".lock", "cases.jsonl", "samples"}
