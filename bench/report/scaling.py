"""The section on scaling: the speedup and the step time over batch size, width and world size, where a run has several.

A series is the cases that differ on one axis and on nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.analysis.speedup import Comparison
from bench.analysis.statistics import Interval, ratio_interval
from bench.report import processes
from bench.report.columns import ALL_AXES, Column, Columns, shown_baselines
from bench.report.document import Cell, Figure, Row, Section, Table, Text
from bench.report.figures import SMALL, WIDTH, colour_of, drawn, lines_of, plain_log
from bench.report.words import comparison_text, interval_text, number_text
from bench.results.rows import CaseRow
from bench.suite.cases import Case
from osgan import spec
from osgan.errors import InputError

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

INTRODUCTION = "Cases that differ on one axis and on nothing else. Intervals are of 95 %, by bootstrap over the rounds."


@dataclass(frozen=True)
class Point:
    """One case of a series."""

    at: float
    comparisons: dict[str, Comparison]
    milliseconds: dict[str, Interval]


@dataclass(frozen=True)
class Series:
    """The cases of a run along one axis, in its order; `name` is what they share."""

    axis: str
    name: str
    points: Sequence[Point]


def section(columns: Columns) -> Section:
    """Return the section; empty where no axis has several values."""
    figures = [
        _figure(columns, column, axis, number, series)
        for column in columns
        for axis in AXES
        for number, series in enumerate(series_of(columns, column, axis), 1)
    ]
    tables = [table for column in columns if (table := processes.table(columns, column))]
    introduction = [Text([INTRODUCTION])] if figures else []
    return Section("scaling", "Scaling", [*introduction, *figures, *tables])


def series_of(columns: Columns, column: Column, axis: str) -> Iterator[Series]:
    """Yield the series of at least two measured cases along an axis."""
    groups: dict[tuple[Any, ...], list[tuple[float, Case, CaseRow]]] = {}
    for row in column.run.timed:
        at, rest = AXES[axis](row.case)
        if at is not None and any(arm.wall_ms for arm in row.arms.values()):
            key = tuple(getattr(rest, name) for name in ALL_AXES if name != axis)
            groups.setdefault(key, []).append((at, rest, row))
    for cases in groups.values():
        if len({at for at, _, _ in cases}) > 1:
            ordered = sorted(cases, key=lambda case: case[0])
            name = columns.short(cases[0][1], without=(axis,))
            yield Series(axis, name, [_point(column, at, row) for at, _, row in ordered])


def _along(axis: str) -> Callable[[Case], tuple[float | None, Case]]:
    return lambda case: (getattr(case, axis), case)


def _width(case: Case) -> tuple[float | None, Case]:
    """Return the width that the architecture's name states, and the case without it."""
    try:
        architecture = spec.parse(case.architecture)
    except InputError:  # a game's name is no specification
        return None, case
    options = dict(architecture.options)
    width = options.pop("width", None)
    if not isinstance(width, int):
        return None, case
    rest = str(spec.Spec(architecture.name, tuple(options.items())))
    return width, case.model_copy(update={"architecture": rest})


AXES = {"batch_size": _along("batch_size"), "width": _width, "world_size": _along("world_size")}
UNITS = {"batch_size": "batch size (images)", "width": "width (channels)", "world_size": "world size (processes)"}


def _point(column: Column, at: float, row: CaseRow) -> Point:
    compared = {s.baseline: c for s in column.summaries if (c := column.comparison(row.name, s.baseline))}
    times = {scheme: arm.wall_ms for scheme, arm in row.arms.items() if arm.wall_ms}
    spread = {scheme: ratio_interval(ms, [1.0] * len(ms)) for scheme, ms in times.items() if len(ms) > 1}
    return Point(at, compared, spread)


def _figure(columns: Columns, column: Column, axis: str, number: int, series: Series) -> Figure:
    baselines = [summary.baseline for summary in column.summaries]
    name = f"scaling-{axis.replace('_', '-')}-{number}{column.suffix}"
    title = f"Over {UNITS[axis]}: {series.name}{column.where}"
    heads = [axis, *(f"over {baseline}" for baseline in baselines), *(f"ms of {s}" for s in column.schemes)]
    rows = [
        Row(
            [
                Cell(f"{point.at:g}", point.at),
                *(_speedup(point.comparisons[baseline]) for baseline in baselines),
                *(_time(point.milliseconds.get(scheme)) for scheme in column.schemes),
            ]
        )
        for point in series.points
    ]
    alt = f"Speedup and milliseconds a step over {UNITS[axis]}, with intervals; the numbers stand in its table"
    table = Table(f"{name}-numbers", title, heads, rows, folded=True)
    shown = shown_baselines(baselines, all_of_them=False)
    return Figure(name, title, alt, table, drawn(partial(_draw, series, shown)))


def _speedup(found: Comparison) -> Cell:
    note = f"ceiling {number_text(found.ceiling)}" if found.ceiling else ""
    return Cell(comparison_text(found), found.speedup.estimate if found.speedup else None, note)


def _time(found: Interval | None) -> Cell:
    return Cell(interval_text(found), found.estimate) if found else Cell("-", None)


def _draw(series: Series, baselines: Sequence[str]) -> "Drawing":
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(WIDTH, 6.0), layout="constrained")
    speedup, times = figure.subplots(2, 1)
    figure.suptitle(lines_of(series.name), fontsize=SMALL, fontweight="bold", x=0.02, ha="left")
    for baseline in baselines:
        found = [(point.at, point.comparisons[baseline]) for point in series.points]
        _line(speedup, baseline, [(at, c.speedup) for at, c in found if c.speedup], f"over {baseline}")
        if limits := [(at, c.ceiling) for at, c in found if c.speedup and c.ceiling]:
            speedup.plot(*zip(*limits, strict=True), ":", color=colour_of(baseline), linewidth=1.4)
    speedup.axhline(1, color="black", linewidth=0.8)
    speedup.set_ylabel("speedup\n(ratio of step times)")
    speedup.plot([], [], "k:", label="FLOP ceiling")
    for scheme in dict.fromkeys(scheme for point in series.points for scheme in point.milliseconds):
        timed = [(p.at, p.milliseconds[scheme]) for p in series.points if scheme in p.milliseconds]
        _line(times, scheme, timed, scheme)
    times.set_yscale("log")
    plain_log(times.yaxis)
    times.set_ylabel("milliseconds a step (log)")
    places = sorted({point.at for point in series.points})
    for axes in (speedup, times):
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
        axes.set_xlabel(UNITS[series.axis])
        axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.45, -0.2))
    return figure


def _line(axes: "Axes", scheme: str, points: Sequence[tuple[float, Interval]], label: str) -> None:
    if points:
        middle = [interval.estimate for _, interval in points]
        error = [[i.estimate - i.low for _, i in points], [i.high - i.estimate for _, i in points]]
        axes.errorbar(
            [at for at, _ in points], middle, yerr=error, marker="o", markersize=3.5, capsize=2, linewidth=1.6,
            color=colour_of(scheme), label=label,
        )  # fmt: skip
