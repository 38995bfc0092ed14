"""Runs over a Ray that is there: two nodes of which one is killed, a driver that is killed, cases that end badly."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from bench import cli, results, suite
from bench.execution import runner
from bench.execution.case import Job
from bench.execution.ray_driver import RETRIES, TREE, Attempt, beside, connected
from osgan.errors import InputError

TINY = """
name: tiny
schemes: [two_stage, one_stage]
matrix: {dataset: digits, architecture: dcgan32+width=4, loss: [hinge, lsgan], batch_size: 4}
timing: {budget_s: 0.2, min_rounds: 5, round_ms: 1, warmup_s: 0.1, replicates: 1, preheat_s: 0}
samples: {steps: 12, images: 4}
"""
MIXED = TINY.replace("[hinge, lsgan]", '[hinge, "lsgan+r1=1e38"]')
LONG = TINY.replace("[hinge, lsgan]", "[hinge, lsgan, wgan]").replace("budget_s: 0.2", "budget_s: 1.5")
TRAINED = """
name: tiny
schemes: [two_stage, one_stage]
matrix: {dataset: digits, architecture: dcgan32+resolution=16+width=4, loss: hinge, batch_size: 8}
timing: null
quality:
  images: 16
  evaluate_every: 16
  seeds: 1
  extractor: efficientnet-lite0+size=64
  generated_images: 8
  real_images: 16
  targets: [1.0]
  tune: {images: 8, grid: {discriminator_lr: [1.0e-4, 2.0e-4]}}
samples: {images: 4}
"""


def _load(folder, text):
    path = folder / "tiny.yaml"
    path.write_text(text)
    return suite.load(str(path))


def _records(run, file=results.CASES):
    return [json.loads(line) for line in (run / file).read_text().splitlines()]


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lost(tmp_path_factory, one_thread):
    """Run cases on two nodes of one CPU each; one is killed as it times, and the task of `wgan` whenever it begins."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("lost")
    asked = _load(folder, LONG)
    killed = SimpleNamespace(node=None, case=None, jobs=[])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    machines = {machine.node_id[:8]: machine for machine in [cluster.add_node(num_cpus=1) for _ in range(2)]}

    def watch(name, what):
        label, _, doing = what.partition(" ")
        if "wgan" in name and label in machines:  # whatever it does: "starting" may be over before it is heard
            for task in _processes(machines[label], lambda process: process.name().startswith("ray::perform")):
                task.kill()
        elif doing.startswith("round") and killed.node is None:
            killed.node, killed.case = label, name
            killed.jobs = _processes(machines[label], lambda process: "bench.execution.ray_job" in process.cmdline())
            cluster.remove_node(machines.pop(label), allow_graceful=False)  # what it said before may be heard after

    def execute(jobs, done, show):
        return nodes.execute(jobs, done, lambda *shown: (show(*shown), watch(*shown[:2])))

    with connected(cluster.address, "cpu") as nodes:
        path = runner.start(asked, nodes.device, None, folder, ray=nodes.facts())
        measured = runner.finish(path, asked, nodes.device, None, execute=execute)
    cluster.shutdown()
    return SimpleNamespace(path=path, measured=measured, killed=killed)


def _processes(node, wanted):
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found = []
    for process in raylet.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie, too
            found += [process] if wanted(process) else []
    return found


def test_a_node_is_lost_and_every_case_is_there_once(lost):
    records = _records(lost.path)
    assert lost.killed.node
    assert sorted(record["name"] for record in records) == sorted(lost.measured.manifest.cases)
    record = next(record for record in records if record["name"] == lost.killed.case)
    assert record["status"] == "ok"
    (cause,) = record["lost"]
    assert cause.startswith(f"lost with node {lost.killed.node}")
    assert record["node"] not in (None, lost.killed.node)


def test_what_ran_on_a_lost_node_ends_with_it(lost):
    assert lost.killed.jobs
    _, alive = psutil.wait_procs(lost.killed.jobs, timeout=60)
    assert not alive


def test_a_job_ends_with_all_its_processes_when_nobody_waits_for_it(tmp_path):
    asked = _load(tmp_path, TINY.replace("budget_s: 0.2, min_rounds: 5", "budget_s: 600, min_rounds: 1000000"))
    job = Job(asked, asked.cases()[0], "cpu", None, tmp_path)
    command = [sys.executable, "-m", "bench.execution.ray_job"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pickle.dump((job, {}), process.stdin)
        process.stdin.flush()
        while not pickle.load(process.stdout)[1].startswith("round"):
            pass
        processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.stdin.close()
        _, alive = psutil.wait_procs(processes, timeout=60)
        for one in alive:
            one.kill()
    assert len(processes) >= 3
    assert not alive


def test_rows_say_where_they_were_measured_and_their_samples_came_back(lost):
    ok = [record for record in _records(lost.path) if record["status"] == "ok"]
    assert len(ok) == 2
    for record in ok:
        assert record["machine"]["device"] == "cpu"
        assert record["machine"]["threads"] == 1
        assert record["machine"]["commit"] == lost.measured.manifest.machine.commit
        assert len(record["node"]) == 8
        for arm in record["arms"].values():
            assert (lost.path / arm["samples"]).read_bytes().startswith(b"\x89PNG")
        assert (lost.path / record["real_samples"]).is_file()
    assert ok[0]["beside"]  # two nodes, one machine
    assert results.by_machine(lost.measured) == [lost.measured]


def test_a_case_that_is_lost_again_and_again_is_a_failed_row_with_the_cause(lost):
    (record,) = [record for record in _records(lost.path) if "wgan" in record["name"]]
    assert record["status"] == "failed"
    assert record["reason"].startswith("lost with node ")
    assert len(record["lost"]) == RETRIES
    assert record["machine"] is None
    assert record["arms"] == {}


def _command(folder, *words, ray="local"):
    places = ["--results", str(folder / "results"), "--reports", str(folder / "reports")]
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "run", *map(str, words), "--device", "cpu", "--ray", ray, *places],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _run_folder(folder):
    (run,) = (folder / "results" / "tiny").iterdir()
    return run


def _children(process, word=""):
    """Return what a command has started, but for Ray's agents, which take a minute to see that they are alone."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie, too
            if word in child.cmdline() if word else "Agent" not in child.name():
                found.append(child)
    return found


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, one_thread):
    """Run cases on a node with one CPU, kill the driver after its first row, and go on with --ray local."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("resumed")
    asked = _load(folder, MIXED)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    process = _command(folder, folder / "tiny.yaml", ray=cluster.address)
    deadline = time.monotonic() + 300
    in_flight = []
    while not in_flight and time.monotonic() < deadline:
        time.sleep(0.05)
        if list(folder.glob("results/tiny/*/cases.jsonl")):
            in_flight = _processes(cluster.head_node, lambda process: "bench.execution.ray_job" in process.cmdline())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    path = _run_folder(folder)
    before = _records(path)
    _, alive = psutil.wait_procs(in_flight, timeout=60)
    cluster.shutdown()
    out, errors = (again := _command(folder, "--resume", path)).communicate()
    return SimpleNamespace(
        asked=asked,
        path=path,
        before=before,
        in_flight=in_flight,
        alive=alive,
        status=again.returncode,
        out=out,
        errors=errors,
    )


def test_a_driver_that_is_killed_loses_what_was_in_flight_and_resume_does_the_rest(resumed):
    assert len(resumed.before) == 1
    after = _records(resumed.path)
    assert after[:1] == resumed.before
    assert sorted(record["case"]["loss"] for record in after) == ["hinge", "lsgan+r1=1e38"]
    assert resumed.in_flight
    assert not resumed.alive


def test_the_command_over_ray_is_quiet_and_its_status_tells_of_the_failed_case(resumed):
    assert resumed.errors == ""
    assert resumed.status == 1
    assert "NonFiniteLossError" in resumed.out
    assert "report: " in resumed.out


def test_over_ray_the_rows_are_those_without_it(resumed, tmp_path):
    _assert_the_rows_are_those_without_ray(resumed.asked, resumed.path, tmp_path)


@pytest.mark.slow
def test_the_rows_of_smoke_over_ray_are_those_without_it(tmp_path, one_thread):
    asked = suite.load("smoke")
    with connected("local", "cpu") as nodes:
        path = runner.start(asked, nodes.device, None, tmp_path / "ray", ray=nodes.facts())
        runner.finish(path, asked, nodes.device, None, execute=nodes.execute)
    _assert_the_rows_are_those_without_ray(asked, path, tmp_path)


def _assert_the_rows_are_those_without_ray(asked, over_ray, folder):
    cpu = torch.device("cpu")
    plain = runner.start(asked, cpu, None, folder / "plain")
    runner.finish(plain, asked, cpu, None)
    rows, others = ({record["name"]: record for record in _records(path)} for path in (plain, over_ray))
    assert rows.keys() == others.keys()
    for case, record in rows.items():
        other = others[case]
        assert record.keys() == other.keys()
        assert record["status"] == other["status"]
        assert not results.differences(*(results.Machine(**row["machine"]) for row in (record, other)))
        assert record["arms"].keys() == other["arms"].keys()
        for scheme, arm in record["arms"].items():
            for key in ("status", "flops", "operators"):
                assert arm.get(key) == other["arms"][scheme].get(key)


def test_ctrl_c_says_how_to_go_on_and_leaves_nothing_running(tmp_path):
    _load(tmp_path, LONG.replace("budget_s: 1.5", "budget_s: 60"))  # it is still at it however late one looks
    process = _command(tmp_path, tmp_path / "tiny.yaml")
    deadline = time.monotonic() + 300
    while not _children(process, "bench.execution.ray_job"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = _children(process)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"stopped; go on with: python -m bench run --resume {_run_folder(tmp_path)} --ray local" in out
    assert errors == ""
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


@pytest.mark.slow
def test_a_seed_waits_for_the_search_and_has_its_settings(tmp_path, one_thread):
    with connected("local", "cpu") as nodes:
        asked = _load(tmp_path, TRAINED)
        path = runner.start(asked, nodes.device, None, tmp_path, ray=nodes.facts())
        measured = runner.finish(path, asked, nodes.device, None, execute=nodes.execute)
    search, seed = _records(path, results.QUALITY)
    assert search["seed"] is None
    for scheme, arm in seed["arms"].items():
        assert arm["setting"] == search["tuned"][scheme]["setting"] is not None
        assert (path / arm["samples"]).is_file()
    assert measured.quality == [seed, search]


@pytest.mark.gpu
def test_each_case_is_alone_on_its_gpu(tmp_path):
    pytest.importorskip("ray")
    with connected("local", "auto") as nodes:
        assert nodes.device.type == "cuda"
        asked = _load(tmp_path, TINY)
        path = runner.start(asked, nodes.device, None, tmp_path, ray=nodes.facts())
        runner.finish(path, asked, nodes.device, None, execute=nodes.execute)
    records = _records(path)
    assert [record["status"] for record in records] == ["ok", "ok"]
    for record in records:
        assert record["machine"]["device"] == "cuda:0"
        assert record["machine"]["gpu"]
        if torch.cuda.device_count() == 1:
            assert record["beside"] == []


def _attempt(name, host, started, ended):
    return Attempt(SimpleNamespace(name=name), [], "node", host, started, ended)


@pytest.mark.parametrize(
    ("other", "met"),
    [
        (("b", "x", 5.0, 15.0), ["b"]),
        (("b", "x", 12.0, None), ["b"]),
        (("b", "x", 0.0, 9.9), []),
        (("b", "x", 20.1, None), []),
        (("b", "y", 12.0, 15.0), []),
        (("b", None, 0.0, None), []),
        (("a", "x", 9.0, 11.0), []),
    ],
)
def test_beside_a_case_is_what_ran_on_its_machine_meanwhile(other, met):
    mine = _attempt("a", "x", 10.0, 20.0)
    assert beside(mine, [mine, _attempt(*other)]) == met


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_without_ray_the_message_says_how_to_install_it(monkeypatch, capsys, tiny, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["bench", "run", str(tiny), "--ray", "local", "--results", str(tmp_path / "r")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "pip install -e '.[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("address", "device", "message"),
    [
        ("local", "cuda:1", "which GPU a case gets is Ray's to say"),
        ("local", "gpu", "give auto, cpu or cuda"),
        ("ray://head:10001", "cpu", "expected local, auto or host:port"),
        ("locale", "cpu", "expected local, auto or host:port"),
        ("localhost:1", "cpu", "nothing can be reached there"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_said(address, device, message):
    with pytest.raises(InputError, match=message), connected(address, device):
        pass


def test_stop_after_is_refused_with_ray(monkeypatch, capsys, tiny):
    monkeypatch.setattr(sys, "argv", ["bench", "run", str(tiny), "--ray", "local", "--stop-after", "1"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "--resume" in capsys.readouterr().err


def test_the_tree_that_is_shipped_is_this_one():
    assert (TREE / "bench" / "execution" / "ray_job.py").is_file()
    assert (TREE / "osgan" / "__init__.py").is_file()
    assert Path.cwd() == TREE
