"""Processes of a run killed at random moments: what was measured stays, and every case is there once."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

SUITE = {
    "name": "tiny",
    "schemes": ["two_stage", "one_stage"],
    "matrix": [
        {
            "dataset": "digits",
            "architecture": "dcgan32+width=4",
            "loss": ["minimax", "hinge", "wgan"],
            "batch_size": 4,
        },
        {
            "dataset": "digits",
            "architecture": "dcgan32+width=4",
            "loss": "lsgan",
            "batch_size": 4,
            "world_size": 2,
        },
    ],
    "timing": {"budget_s": 1, "min_rounds": 5, "round_ms": 1, "warmup_s": 0.1, "replicates": 2, "preheat_s": 0},
    "samples": {"steps": 12, "images": 4},
}
KILLS = 10


@pytest.fixture
def command(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.dump(SUITE))
    places = ["--results", tmp_path / "results", "--reports", tmp_path / "reports", "--device", "cpu"]

    def start():
        runs = list(tmp_path.glob("results/tiny/*/run.json"))
        what = ["--resume", runs[0].parent] if runs else [tmp_path / "tiny.yaml"]
        words = [sys.executable, "-m", "bench", "run", *what, *places]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (tmp_path / "errors").open("a") as errors:
            return subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=errors, env=environment)

    return start


def rows_of(tmp_path):
    files = list(tmp_path.glob("results/tiny/*/cases.jsonl"))
    return files[0].read_bytes().splitlines() if files else []


def workers_of(process):
    """Return the processes in which a run measures: not those that only keep house for them."""
    return [
        found
        for found in psutil.Process(process.pid).children(recursive=True)
        if not any("resource_tracker" in word for word in found.cmdline())
        and not (found.ppid() == process.pid and any("forkserver" in word for word in found.cmdline()))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the run", "a worker"])
def test_kills_at_random_moments_lose_no_case_and_run_none_twice(command, tmp_path, victim):
    chance = random.Random(victim)
    kills = 0
    before = []
    while kills < KILLS:
        process = command()
        while process.poll() is None and kills < KILLS:
            time.sleep(chance.uniform(1, 12))
            if process.poll() is not None:
                break
            try:
                target = process if victim == "the run" else chance.choice(workers_of(process))
                target.kill()
            except (psutil.NoSuchProcess, IndexError):  # none is alive at this moment
                continue
            kills += 1
            if victim == "the run":
                process.wait()
            rows = [line for line in rows_of(tmp_path) if line.endswith(b"}")]
            assert rows[: len(before)] == before
            before = rows
        process.wait()
        if kills < KILLS and process.returncode in (0, 1):  # all done: begin anew, so that kills meet work
            assert_each_once(tmp_path)
            before = []
            next(tmp_path.glob("results/tiny/*")).rename(tmp_path / f"done-{kills}")
    if process.returncode == -signal.SIGKILL:
        assert command().wait() == 0
    assert_each_once(tmp_path)
    assert "Traceback" not in (tmp_path / "errors").read_text()


def assert_each_once(tmp_path):
    rows = [json.loads(line) for line in rows_of(tmp_path)]
    (manifest,) = tmp_path.glob("results/tiny/*/run.json")
    cases = json.loads(manifest.read_text())["cases"]
    assert sorted((row["name"], row["process"]) for row in rows) == sorted((name, k) for name in cases for k in (0, 1))
    for row in rows:
        assert row["status"] == "ok" or len(row["lost"]) > 0, row["reason"]  # killed twice: a failed row that says so
