"""The section on quality: the metric over images and minutes, the time to reach a value, the tuning."""

import statistics
from collections.abc import Iterator
from functools import partial

from bench.analysis.time_to_quality import COLLAPSE, Level, Study
from bench.analysis.variants import contrasts
from bench.report.columns import Column, Columns
from bench.report.document import Block, Cell, Figure, Row, Section, Table, Text
from bench.report.figures import drawn
from bench.report.quality_figures import curve, draw_study
from bench.report.tables import text_cell
from bench.report.words import (
    contrast_text,
    finals_text,
    interval_text,
    mark,
    number_text,
    options_of,
    seconds_text,
)
from bench.results.store import Run

INTRODUCTION = (
    "Every arm saw the same number of real images; only its training steps count as time, its evaluations do not. The "
    "value is that of the moving average of G where there is one; lower is better. A target is a multiple, stated in "
    "the suite, of the final value of the two-stage scheme that ends best; between evaluations the curve is taken as a "
    f"line. A run has collapsed when it ends above {COLLAPSE} times its own best value. Values of different extractors "
    "do not compare."
)

VARIANTS = (
    "The metric with one variant over that with another, of one scheme, seed by seed; above 1 the former is worse. "
    "Equal seconds: when the faster of the two ends; variants are trained one after the other, so whatever else the "
    "machine did meets them unequally. Where the interval holds 1, no difference is shown, which is not to say that "
    "there is none. It takes two seeds at least, none of them failed."
)


def section(columns: Columns) -> Section:
    """Return the section; empty for runs that trained nothing for quality."""
    blocks: list[Block] = []
    for column in columns:
        for number, study in enumerate(column.studies):
            title = f"{study_name(columns, column, study)}: {study.metric}"
            blocks += [_figure(column, study, number, title), _times(column, study, number, title)]
        blocks += _variants(columns, column)
    if blocks:
        blocks = [Text([INTRODUCTION, *_asked(columns)]), *blocks]
    return Section("quality", "Quality over time", [*blocks, *_tuning(columns)])


def _asked(columns: Columns) -> Iterator[str]:
    """Say of each suite what is not the default for every training, and which variants see images augmented."""
    for column in columns:
        suite = column.run.manifest.suite
        if suite.quality is None or not column.studies:
            continue
        schedules = {name: getattr(suite.quality, name) for name in ("schedule", "penalty_schedule")}
        options = options_of(suite.optimizer)
        options += [f"{name} {value}" for name, value in schedules.items() if value != "constant"]
        if options:
            yield f"All trainings{column.where}: {', '.join(options)}."
        for name, variant in suite.quality.variants.items():
            if variant.augmentation is not None:
                yield f"Variant {name}{column.where}: D sees images through {variant.augmentation}."


def study_name(columns: Columns, column: Column, study: Study) -> str:
    """Return the short name of a study's case with its marks, and its variant."""
    marks = next((mark(row) for row in column.run.quality if row.case_name == study.name and row.arms), "")
    return f"{columns.short(study.case)}{marks}, {study.variant}{column.where}"


def _figure(column: Column, study: Study, number: int, title: str) -> Figure:
    name = f"quality-{number}{column.suffix}"
    rows = []
    for scheme, runs in study.arms.items():
        for point in curve(runs):
            values = [Cell(f"{v:,.1f}", v) for v in (point.median, point.low, point.high)]
            seen = [Cell(f"{point.images:,.0f}", point.images), Cell(number_text(point.minutes, 3), point.minutes)]
            rows.append(Row([text_cell(scheme), *seen, *values, Cell(str(point.num_seeds), point.num_seeds)]))
    heads = ["scheme", "images seen", "minutes of training", "median", "lowest", "highest", "seeds"]
    table = Table(f"{name}-numbers", f"{title}, the curves", heads, rows, folded=True)
    alt = f"{title} of every scheme against images seen and against minutes of training; the numbers stand in its table"
    return Figure(name, title, alt, table, drawn(partial(draw_study, study, title)))


def _times(column: Column, study: Study, number: int, title: str) -> Table:
    rows = []
    for scheme in study.arms:
        failed, collapsed = study.failures(scheme)
        finals, raw = study.finals(scheme), study.raw_finals(scheme)
        rows.append(
            Row(
                [
                    text_cell(scheme),
                    Cell(finals_text(finals), statistics.median(finals) if finals else None),
                    Cell(finals_text(raw), statistics.median(raw) if raw else None),
                    text_cell(f"{failed}, {collapsed}"),
                    *(_reached(level, scheme) for level in study.levels),
                ]
            )
        )
    heads = ["scheme", "final value: median (range)", "of G itself", "failed, collapsed"]
    heads += [_head(study, level) for level in study.levels]
    return Table(f"time-to-quality-{number}{column.suffix}", f"Time to quality: {title}", heads, rows)


def _head(study: Study, level: Level) -> str:
    rule = f" ({level.factor} x {study.baseline})" if level.factor else ""
    return f"to {number_text(level.value, 1)}{rule}"


def _reached(level: Level, scheme: str) -> Cell:
    found = level.of(scheme)
    note = f"{interval_text(found.speedup)} x one_stage's time" if found.speedup else ""
    return Cell(seconds_text(found), found.median_s, note)


def _variants(columns: Columns, column: Column) -> Iterator[Table]:
    rows = [
        Row(
            [
                text_cell(study_name(columns, column, found.study).removesuffix(column.where)),
                text_cell(found.study.reference),
                text_cell(found.scheme),
                *(
                    Cell(contrast_text(interval), interval.estimate if interval else None)
                    for interval in (found.at_images, found.at_seconds)
                ),
            ]
        )
        for found in contrasts(column.studies)
    ]
    if rows:
        heads = ["training", "over", "scheme", "at equal images", "at equal seconds"]
        yield Table(f"variants{column.suffix}", f"Variants against each other{column.where}", heads, rows, VARIANTS)


def _tuning(columns: Columns) -> Iterator[Table]:
    for column in columns:
        if rows := list(_tuned(column.run)):
            note = "The same grid for every arm, with a seed that is not judged."
            heads = ["training", "scheme", "tried", "kept"]
            yield Table(f"tuning{column.suffix}", f"Tuning{column.where}", heads, rows, note, folded=True)


def _tuned(run: Run) -> Iterator[Row]:
    for row in run.quality:
        for scheme, found in (row.tuned or {}).items():
            trials = ", ".join(
                f"{_setting(trial.setting)}: {'failed' if trial.reason else number_text(trial.value, 1)}"
                for trial in found.trials
            )
            texts = (row.name.removesuffix(" / tune"), scheme, trials, _setting(found.setting))
            yield Row([text_cell(text) for text in texts])


def _setting(setting: dict[str, float] | None) -> str:
    return " ".join(f"{key} {value:g}" for key, value in setting.items()) if setting else "the suite's"
