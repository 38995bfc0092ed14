"""What cases are called where they differ in the augmentation, and what goes without saying."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from bench import results
from bench.report import processes, quality, speedups
from bench.report.columns import columns_of
from bench.report.formats import speedup_csv
from bench.report.scaling import series_of
from tests.bench.rows import case_row, changed, run_of, with_

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODERN = next(FIXTURES.glob("format-5/modern/*"))
OLD = next(FIXTURES.glob("format-4/rows/*"))
TIMED = {scheme: {"wall_ms": [ms] * 5} for scheme, ms in (("two_stage", 2.0), ("one_stage", 1.0))}


def named(*cases, **of_run):
    """A run of cases that differ from one another as said."""
    rows = [case_row(f"case {index}", TIMED, case, rounds=5) for index, case in enumerate(cases)]
    return run_of(*rows, **of_run)


def short_names(run):
    columns = columns_of([run])
    return [columns.name(row) for row in run.cases]


def shared_by(run):
    """The sentence on what all cases have in common."""
    return speedups.sections(columns_of([run]))[0].blocks[0].paragraphs[1]


def test_an_augmentation_is_in_a_name_where_cases_differ_in_it():
    assert short_names(named({"loss": "hinge"}, {"loss": "wgan"})) == ["hinge", "wgan"]
    assert short_names(named({}, {"augmentation": "diffaugment"})) == ["not augmented", "augmented by diffaugment"]


def test_an_augmentation_of_all_cases_is_said_once_and_none_at_all_never():
    same = named(*({"augmentation": "ada", "loss": loss} for loss in ("hinge", "wgan")))
    assert short_names(same) == ["hinge", "wgan"]
    assert "engine eager, augmentation ada." in shared_by(same)
    assert "augment" not in shared_by(named({}))


def test_options_of_the_optimizers_are_said_where_they_are_not_the_default():
    asked = {"generator_clip": 0.5, "accumulate": 2, "gradient_normalization": 0.9, "n_critic": 3, "betas": [0.0, 0.9]}
    assert shared_by(named({}, suite={"optimizer": asked})).endswith(
        "engine eager, n_critic 3, generator_clip 0.5, accumulate 2, gradient_normalization 0.9."
    )
    assert shared_by(named({}, suite={"optimizer": {"generator_clip": None, "n_critic": 1}})).endswith("engine eager.")


def test_of_several_machines_it_says_whose_options_they_are():
    here = named({}, suite={"optimizer": {"discriminator_clip": 2.5}})
    there = replace(named({}), path=Path("results/s/y"))
    (said,) = [line for line in speedups.sections(columns_of([here, there]))[0].blocks[0].paragraphs if "clip" in line]
    assert said.count("discriminator_clip 2.5 on Some CPU, 2 threads") == 1


def test_csv_has_a_column_for_it():
    found = list(csv.DictReader(io.StringIO(speedup_csv([results.load(OLD), results.load(MODERN)]), newline="")))
    assert {row["augmentation"] for row in found} == {"none", "diffaugment+policy='translation'"}


def test_a_case_is_scaled_and_made_parallel_with_its_own_augmentation():
    run = named(
        {"batch_size": 8},
        {"batch_size": 16, "augmentation": "ada"},
        {"batch_size": 32},
        {"batch_size": 8, "world_size": 2, "augmentation": "ada"},
        {"batch_size": 8, "augmentation": "ada"},
    )
    run = replace(run, cases=[*run.cases[:4], changed(run.cases[4], "one_stage", wall_ms=(3.0,) * 5)])
    columns = columns_of([run])
    (column,) = columns
    series = [[point.at for point in series.points] for series in series_of(columns, column, "batch_size")]
    assert series == [[8, 32], [8, 16]]
    efficiency = [row.cells[3].value for row in processes.table(columns, column).rows]
    assert efficiency == pytest.approx([1.0, 3.0])  # over the augmented case, whose one_stage takes three times as long


def test_quality_says_what_every_training_had():
    run = results.load(MODERN)
    introduction = quality.section(columns_of([run])).blocks[0].paragraphs
    assert introduction[1:] == [
        "All trainings: generator_clip 1, discriminator_clip 2.5, accumulate 2, gradient_normalization 0.9, "
        "schedule cosine+to=0.1, penalty_schedule linear+to=0.5.",
        "Variant diffaugment: D sees images through diffaugment.",
    ]
    plain = with_(run.manifest.suite.quality, schedule="constant", penalty_schedule="constant", variants={})
    usual = with_(run.manifest.suite, quality=plain, optimizer=type(run.manifest.suite.optimizer)())
    bare = replace(run, manifest=with_(run.manifest, suite=usual))
    assert len(quality.section(columns_of([bare])).blocks[0].paragraphs) == 1
