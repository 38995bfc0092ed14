"""Arms that are not what their names say: stand-ins for a scheme that is not exact, and settings of a scheme's own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import results, suite
from bench.analysis import speedup
from bench.arms.opening import open_arms
from bench.execution import runner
from bench.report.words import mark, mark_lines
from bench.suite.jobs import Job
from bench.suite.model import Suite
from osgan.errors import InputError, NotExactError
from tests.bench.rows import case_row, run_of, with_

MATRIX = {
    "dataset": "digits",
    "architecture": "dcgan32+width=4+norm=batch",
    "loss": ["hinge", "minimax"],
    "batch_size": 4,
}
TIMING = {"budget_s": 0.2, "min_rounds": 5, "round_ms": 1, "warmup_s": 0.1, "replicates": 1, "preheat_s": 0}
SCHEMES = ["two_stage", "simultaneous", "one_stage"]


def make(**changes):
    return Suite.model_validate({"name": "t", "schemes": SCHEMES, "matrix": MATRIX, "timing": TIMING} | changes)


def arms(asked, case=0):
    return open_arms(Job(asked, asked.cases()[case], "cpu", None, Path()), torch.device("cpu"))


def test_an_arm_that_is_not_exact_runs_as_the_fallback_and_says_so():
    build = arms(make(fallback="simultaneous"))
    arm = build("one_stage")
    assert type(arm.scheme) is type(build("simultaneous").scheme)
    assert arm.ran_as == "simultaneous"
    assert "mixes samples" in arm.ran_as_because
    assert build("two_stage").ran_as is None
    assert arms(make(fallback="simultaneous"), 1)("one_stage").ran_as is None  # minimax is exact under BatchNorm


def test_without_a_fallback_it_is_refused():
    with pytest.raises(NotExactError, match="mixes samples"):
        arms(make())("one_stage")


def test_the_fallback_is_one_that_is_exact_everywhere():
    with pytest.raises(ValueError, match="simultaneous"):
        make(fallback="two_stage")


OVERRIDE = {"scheme": "one_stage", "loss": "minimax", "set": {"discriminator_lr": 1e-5}}


def test_an_override_is_of_one_scheme_in_the_cases_it_names():
    other = {"scheme": "one_stage", "set": {"architecture": "dcgan32+width=4+latent_dim=7"}}
    asked = make(overrides=[OVERRIDE, other])
    hinge, minimax = asked.cases()
    assert asked.settings(hinge, "one_stage") == {"architecture": "dcgan32+width=4+latent_dim=7"}
    assert asked.settings(minimax, "one_stage") == asked.settings(hinge, "one_stage") | {"discriminator_lr": 1e-5}
    assert asked.settings(minimax, "two_stage") == {}
    mine, theirs = (arms(asked, 1)(scheme) for scheme in ("one_stage", "two_stage"))
    assert mine.loop.optimizers[1].defaults["lr"] == 1e-5
    assert theirs.loop.optimizers[1].defaults["lr"] == 2e-4
    assert mine.networks.latent.dim == 7
    assert theirs.networks.latent.dim == 100


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (OVERRIDE | {"scheme": "two_stage_frozen"}, "unknown scheme of an override 'two_stage_frozen'"),
        (OVERRIDE | {"loss": "wgan"}, "an override of one_stage matches no case"),
        (OVERRIDE | {"set": {"architecture": "dcgan33"}}, "unknown architecture 'dcgan33'"),
        (OVERRIDE | {"set": {"schedule": "sometimes"}}, "unknown schedule 'sometimes'"),
        (OVERRIDE | {"set": {"lr": 1}}, "Extra inputs"),
    ],
)
def test_an_override_that_cannot_be_meant(override, message):
    with pytest.raises(ValueError, match=message):
        make(overrides=[override])


def test_more_updates_of_the_discriminator_are_for_every_arm():
    build = arms(make(optimizer={"n_critic": 3}), 1)
    for scheme in SCHEMES:
        arm = build(scheme)
        assert arm.scheme.n_critic == 3
        assert arm.loop.draw()[0].shape[0] == 12
        arm.run(1)


def fake_row(**marks):
    theirs = {"wall_ms": [2.0, 2.1, 1.9, 2.0, 2.0], "flops": 2}
    return case_row("c", {"two_stage": theirs, "one_stage": {"wall_ms": [1.0] * 5, "flops": 1} | marks})


def test_a_stand_in_counts_in_no_mean():
    plain, stand_in = fake_row(), fake_row(ran_as="simultaneous")
    (summary,) = speedup.summarise(run_of(plain, with_(stand_in, name="b")))
    assert [c.ran_as for c in summary.comparisons] == [None, "simultaneous"]
    assert len(summary.measured) == 1
    (alone,) = speedup.summarise(run_of(stand_in))
    assert alone.overall is None
    assert alone.comparisons[0].speedup.estimate == 2.0  # it has its row all the same


def test_marks_are_explained_where_they_stand():
    plain, stand_in = fake_row(), fake_row(ran_as="simultaneous")
    unmatched = fake_row(overrides={"discriminator_lr": 1e-5})
    assert [mark(row) for row in (plain, stand_in, unmatched)] == ["", " †", " UNMATCHED"]
    assert mark_lines([plain]) == []
    assert [line.split(" ")[0] for line in mark_lines([plain, stand_in, unmatched])] == ["UNMATCHED:", "†"]


def test_data_that_are_not_there_are_told_from_mistakes():
    cases = make(matrix=MATRIX | {"dataset": ["digits", "celeba", "lsun:bridge"]}).cases()
    assert sorted(runner.preflight(cases, None)) == ["celeba", "lsun:bridge"]
    with pytest.raises(ValueError, match="unknown dataset 'celebb'"):
        make(matrix=MATRIX | {"dataset": "celebb"})
    with pytest.raises(InputError, match="batch size 5400"):
        runner.preflight(make(matrix=MATRIX | {"batch_size": 1800}).cases(), None, n_critic=3)


TINY = """
name: tiny
schemes: [two_stage, one_stage]
fallback: simultaneous
overrides: [{scheme: one_stage, loss: minimax, set: {discriminator_lr: 1e-5}}]
matrix:
  - {dataset: [digits, celeba], architecture: dcgan32+width=4+norm=batch, loss: [hinge, minimax+r1=1/4], batch_size: 4}
timing: {budget_s: 0.2, min_rounds: 5, round_ms: 1, warmup_s: 0.1, replicates: 1, preheat_s: 0}
samples: {steps: 1, images: 4}
""".replace("loss: minimax,", "loss: minimax+r1=1/4,")


def bench(tmp_path, text):
    (tmp_path / "tiny.yaml").write_text(text)
    places = ["--results", str(tmp_path / "results"), "--reports", str(tmp_path / "reports")]
    command = [sys.executable, "-m", "bench", "run", str(tmp_path / "tiny.yaml"), "--device", "cpu", *places]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    )


def test_a_run_with_marks_and_a_data_set_that_is_not_there(tmp_path):
    done = bench(tmp_path, TINY)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("results/tiny/*/cases.jsonl")
    records = {record["name"]: record for record in map(json.loads, file.read_text().splitlines())}
    assert [record["status"] for record in records.values()].count("skipped") == 2
    hinge, minimax = (record for record in records.values() if record["case"]["dataset"] == "digits")
    assert hinge["arms"]["one_stage"]["ran_as"] == "simultaneous"
    assert minimax["arms"]["one_stage"]["overrides"] == {"discriminator_lr": 1e-5}
    assert minimax["steps_per_round"] % 4 == 0  # whole periods of the lazy penalty
    (page,) = tmp_path.glob("reports/tiny/*/report.md")
    text = page.read_text().replace("\\", "")
    tables = [line for line in text.splitlines() if line.startswith("| digits, ")]
    assert len(tables) > 10
    assert all(" †" in line if "hinge" in line else "UNMATCHED" in line for line in tables)
    assert "celeba" in text
    assert "skipped: dataset 'celeba': found nothing at" in text
    assert "one_stage: ran as simultaneous: one-stage training is not exact here" in text
    assert text.index("A one-stage step is") < text.index("UNMATCHED: in 1 case(s)") < text.index("## ")


def test_a_run_none_of_whose_data_are_there_exits_2(tmp_path):
    done = bench(tmp_path, TINY.replace("[digits, celeba]", "[celeba, ffhq]"))
    assert done.returncode == 2
    assert "no case can run: dataset 'celeba': found nothing" in done.stderr.replace("\n", " ")
    assert "dataset 'ffhq': found nothing" in done.stderr
    assert not (tmp_path / "results").exists()


def test_what_is_skipped_is_said_of_quality_too(tmp_path):
    quality = {"images": 8, "evaluate_every": 8, "seeds": 2, "tune": {"images": 4, "grid": {"generator_lr": [1e-3]}}}
    asked = make(matrix=MATRIX | {"dataset": ["digits", "celeba"]}, quality=quality, seed=1)
    run = runner.start(asked, runner.torch.device("cpu"), None, tmp_path)
    found = results.load(run)
    assert {row.status for row in found.cases} == {"skipped"}
    assert [row.seed for row in found.quality] == [0, 1, None] * 2
    assert {row.status for row in found.quality} == {"skipped"}


def test_every_suite_here_is_one_that_names_its_marks():
    asked = suite.load("official-pairs")
    assert asked.overrides
    assert all(not suite.load(path.stem).overrides for path in suite.SUITES.glob("*.yaml") if path.stem != asked.name)
