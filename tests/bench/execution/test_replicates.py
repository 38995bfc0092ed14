"""How many processes a case is timed in, and in which order."""

import json
import os
import time

import pytest
import torch
import yaml

from bench import results
from bench import suite as suites
from bench.child import child, messages
from bench.execution import runner
from bench.execution.budget import Piece
from bench.execution.replicates import processes_needed
from bench.suite.plans import Timing
from tests.bench.results.test_timed import process
from tests.bench.rows import case_row

NARROW = Timing(replicates=2, max_replicates=4, target_half_width=0.5)
WIDE = Timing(replicates=2, max_replicates=4, target_half_width=0.0001)


@pytest.mark.parametrize(
    ("timing", "rows", "needed"),
    [
        (Timing(), [], 3),
        (Timing(), [process(0)], 3),
        (NARROW, [process(0), process(1)], 2),
        (WIDE, [process(0), process(1, 1.5)], 3),
        (WIDE, [process(k, 1.4 + k / 10) for k in range(4)], 4),
        (Timing(), [case_row("a", {}, status="skipped", reason="no data")], 1),
        (Timing(), [case_row("a", {}, status="failed", reason="killed by signal 9")], 1),
        (Timing(), [process(0), case_row("a", {}, process=1, status="failed", reason="killed by signal 9")], 3),
        (WIDE, [process(0), process(1, status="failed", reason="NaN")], 2),  # it has failed, however often
        (Timing(), [case_row("another", {}, status="skipped", reason="no data")], 3),
    ],
)
def test_a_case_has_its_replicates_and_more_while_it_is_not_known_well(timing, rows, needed):
    assert processes_needed(timing, "a", rows) == needed


def test_a_run_cut_between_processes_goes_on_with_the_rest(tmp_path):
    text = {
        "name": "tiny",
        "schemes": ["two_stage", "one_stage"],
        "matrix": {"dataset": "digits", "architecture": "mlp+width=4", "loss": ["hinge", "wgan"], "batch_size": 4},
        "timing": {"budget_s": 0.1, "min_rounds": 5, "round_ms": 1, "warmup_s": 0.1, "replicates": 2, "preheat_s": 0},
        "samples": {"steps": 1, "images": 4},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.dump(text))
    asked, cpu = suites.load(str(tmp_path / "tiny.yaml")), torch.device("cpu")
    path = runner.start(asked, cpu, None, tmp_path)
    while len(runner.finish(path, asked, cpu, None, Piece(0.0)).cases) < 4:
        pass
    lines = [json.loads(line) for line in (path / "cases.jsonl").read_text().splitlines()]
    names = [case.name for case in asked.cases()]
    assert [(line["name"], line["process"]) for line in lines] == [(n, k) for k in (0, 1) for n in names]
    assert all(line["arms"]["one_stage"]["flops"] is None for line in lines[2:])  # measured once
    run = results.load(path)
    assert [row.arms["one_stage"].flops is not None for row in run.timed] == [True, True]
    assert not runner.left_of(path, cpu)[1]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_fresh_process_is_no_fork_of_a_server(fresh):
    with child(_parent, fresh=fresh) as (_, receiving):
        parent = next(messages(receiving, time.monotonic() + 60))
    assert (parent == os.getpid()) == fresh


def _parent(connection):
    connection.send(os.getppid())
