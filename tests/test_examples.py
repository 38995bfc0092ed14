"""The examples run, and show what they say."""

import difflib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=EXAMPLES.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_one_stage_in_a_plain_loop_learns():
    distances = importlib.import_module("examples.plain_loop").main(steps=81)
    assert distances[-1] < distances[0] / 2


@pytest.mark.parametrize("name", ["two_stage", "one_stage"])
def test_both_loops_train(name):
    images = importlib.import_module(f"examples.two_to_one.{name}").main(steps=3)
    assert images.shape == (64, 1, 16, 16)
    assert torch.isfinite(images).all()


def test_the_diff_is_that_of_the_two_loops():
    names = ("two_stage.py", "one_stage.py")
    before, after = ((EXAMPLES / "two_to_one" / name).read_text().splitlines(keepends=True) for name in names)
    expected = "".join(difflib.unified_diff(before, after, *names))
    # a wanted change: diff -u --label two_stage.py --label one_stage.py two_stage.py one_stage.py > two_to_one.diff
    assert (EXAMPLES / "two_to_one/two_to_one.diff").read_text() == expected


def test_networks_and_data_of_ones_own_in_a_suite(tmp_path):
    places = ("--results", tmp_path / "results", "--reports", tmp_path / "reports")
    done = command("bench", "run", EXAMPLES / "own_gan.yaml", "--device", "cpu", *places)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("results/own-gan/*/cases.jsonl")
    exact, mixing = (json.loads(line)["arms"]["one_stage"] for line in file.read_text().splitlines())
    assert exact["status"] == mixing["status"] == "ok"
    assert exact["ran_as"] is None
    assert mixing["ran_as"] == "simultaneous"


OWN = ("--dataset", "examples.own_gan:Rings", "--architecture")


@pytest.mark.parametrize(("builder", "status"), [("build", 0), ("build_with_batch_norm", 1)])
def test_networks_of_ones_own_are_verified(builder, status):
    done = command("osgan", "verify", *OWN, f"examples.own_gan:{builder}+width=4", "--loss", "hinge", "--json")
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    assert found["exact"] == (status == 0)
    assert ("mixes samples" in found["reason"]) == (status == 1)


def test_networks_of_ones_own_are_counted():
    options = ("--loss", "hinge", "--n-critic", 5, "--json")
    done = command("osgan", "predict", *OWN, "examples.own_gan:build", *options)
    assert done.returncode == 0, done.stderr
    ceilings = json.loads(done.stdout)["ceilings"]
    assert 1 < ceilings["two_stage"] < 1.2
