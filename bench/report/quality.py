"""The section on quality: the metric over images and minutes, the time to reach a value, the tuning."""

import statistics
from collections.abc import Iterator
from functools import partial

from bench.analysis.time_to_quality import Level, Study
from bench.analysis.trained import COLLAPSE
from bench.analysis.variants import contrasts
from bench.report import how_soon, tuning
from bench.report.columns import Column, Columns
from bench.report.document import Block, Cell, Figure, Row, Section, Table, Text
from bench.report.figures import drawn
from bench.report.quality_figures import curve, draw_panels
from bench.report.quality_words import contrast_text, finals_text, seconds_text
from bench.report.tables import text_cell
from bench.report.words import number_text, options_of
from bench.suite.cases import Case

INTRODUCTION = (
    "Every arm saw the same number of real images; only its training steps count as time, its evaluations do not. The "
    "value is that of the moving average of G where there is one; lower is better. A target is a multiple, stated in "
    "the suite, of the final value of the two-stage scheme that ends best, or of the one that the suite names. When a "
    "training is that good is read off the curve that never rises and is closest to its own, up to its best; the times "
    "are means over all seeds, and one that does not get there counts with all its images (>). A run has collapsed "
    f"when it ends above {COLLAPSE} times its own best value. Values of different extractors do not compare."
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
        blocks += [*how_soon.tables(columns, column), *_figures(columns, column)]
        for number, study in enumerate(column.studies):
            title = f"{columns.study_name(column, study)}: {study.metric}"
            blocks.append(_times(column, study, number, title))
        blocks += _variants(columns, column)
    if blocks:
        blocks = [Text([INTRODUCTION, *_asked(columns)]), *blocks]
    return Section("quality", "Quality over time", [*blocks, *tuning.tables(columns)])


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


def _figures(columns: Columns, column: Column) -> Iterator[Figure]:
    """Yield a figure for all studies that differ in the data set alone, a panel for each."""
    groups: dict[tuple[str, Case], list[tuple[str, Study]]] = {}
    for study in column.studies:
        key = study.variant, study.case.model_copy(update={"dataset": ""})
        groups.setdefault(key, []).append((columns.study_name(column, study), study))
    for number, ((variant, case), panels) in enumerate(groups.items()):
        rows = [row for name, study in panels for row in _curves(name, study)]
        heads = ["training", "scheme", "images seen", "minutes of training", "median", "lowest", "highest", "seeds"]
        several = f"{columns.short(case, without=('dataset',))}, {variant}{column.where}"
        title = f"{panels[0][0] if len(panels) == 1 else several}: {panels[0][1].metric}"
        name = f"quality-{number}{column.suffix}"
        table = Table(f"{name}-numbers", f"{title}, the curves", heads, rows, folded=True)
        alt = f"{title} of every scheme against minutes of training; the numbers stand in its table"
        yield Figure(name, title, alt, table, drawn(partial(draw_panels, panels, title)))


def _curves(name: str, study: Study) -> Iterator[Row]:
    for scheme in study.arms:
        for point in curve(study, scheme):
            values = [Cell(f"{v:,.1f}", v) for v in (point.median, point.low, point.high)]
            seen = [Cell(f"{point.images:,.0f}", point.images), Cell(number_text(point.minutes, 3), point.minutes)]
            num_seeds = Cell(str(point.num_seeds), point.num_seeds)
            yield Row([text_cell(name), text_cell(scheme), *seen, *values, num_seeds])


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
                    _clock(study, scheme),
                    *(_reached(level, scheme) for level in study.levels),
                ]
            )
        )
    heads = [
        "scheme",
        "final value: median (range)",
        "of G itself",
        "failed, collapsed",
        "whole training, by the wall clock",
    ]
    heads += [_head(level) for level in study.levels]
    note = f"Seeds without any training: {study.num_lost}; in no number here." if study.num_lost else ""
    return Table(f"time-to-quality-{number}{column.suffix}", f"Time to quality: {title}", heads, rows, note)


def _clock(study: Study, scheme: str) -> Cell:
    """Return the median seconds of a whole training, as they went by."""
    if scheme not in study.pace.arms:
        return Cell("-", None, "not trained: it takes the same steps as its twin")
    seconds = [run.seconds[-1] for run in study.arms[scheme] if run.final is not None]
    return Cell(f"{statistics.median(seconds):,.1f} s", statistics.median(seconds)) if seconds else Cell("-", None)


def _head(level: Level) -> str:
    rule = f" ({level.factor:g} x {level.baseline})" if level.factor else ""
    return f"to {number_text(level.value, 1)}{rule}"


def _reached(level: Level, scheme: str) -> Cell:
    found = level.reached[scheme]
    return Cell(seconds_text(found), found.seconds if found.num_reached else None, f"{found.images:,.0f} images")


def _variants(columns: Columns, column: Column) -> Iterator[Table]:
    rows = [
        Row(
            [
                text_cell(columns.study_name(column, found.study).removesuffix(column.where)),
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
