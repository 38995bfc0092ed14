"""The page of `python -m bench history`: every ratio of the gate over commits, its steps marked."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import results
from bench.analysis.steps import LEVEL, Step
from bench.gate.history import Series, collect
from bench.report import figures, html
from bench.report.document import Cell, Document, Figure, Row, Section, Table, Text
from bench.report.figures import SMALL, WIDTH, colour_of, drawn
from bench.report.tables import text_cell
from bench.report.words import interval_text, number_text
from bench.suite.model import CONTROL
from osgan.errors import InputError

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

HEIGHT = 1.9
MOST_LABELS = 9
"""Commits that fit under a figure."""
COMMIT = 7
READING = (
    "A ratio is the time of a baseline's step over that of a one_stage step, with its 95 % interval; the control is a "
    "second one_stage, and should stay at 1. Filled points are runs of the gate, hollow ones baselines that git "
    "remembers. The grey band is what the gate allows now. A dashed line is a step, a horizontal line a level: the "
    "geometric mean between two steps. A ratio steps when either of its two schemes becomes faster or slower."
)
CHANCE = (
    f"A step is told from scatter at the {LEVEL:.0%} level, series by series: of a hundred series without any, about "
    "one shows a step by chance. A level has at least two points, so the newest point alone is no step."
)


def write_history(results_folder: Path, baselines: Path, out: Path) -> Path:
    """Write the page, which needs no other file, and return its path.

    Raises InputError without a run and a baseline, or where the page cannot be written.
    """
    page = document(*collect(results_folder, baselines))
    with TemporaryDirectory() as folder:
        figures.save(page, Path(folder))
        text = html.render(page, Path(folder))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        results.write_atomically(out, text)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file with --out") from None
    return out


def document(series: Sequence[Series], remarks: Sequence[str]) -> Document:
    """Return the page; its figures are not drawn yet."""
    places = list(dict.fromkeys((one.machine, one.case) for one in series))
    several = len({machine for machine, _ in places}) > 1
    sections = [
        Section("now", "Now", [_newest(series)]),
        Section("reading", "How to read this", [Text([READING, CHANCE], items=remarks)]),
    ]
    for number, (machine, case) in enumerate(places, 1):
        blocks = [
            _figure(one, f"{number}-{results.slug(one.scheme)}")
            for one in series
            if (one.machine, one.case) == (machine, case)
        ]
        sections.append(Section(f"case-{number}", f"{case} on {machine}" if several else case, blocks))
    return Document("The gate's ratios over commits", _verdict(series), sections)


def _verdict(series: Sequence[Series]) -> list[str]:
    steps = [(one, step) for one in series for step in one.steps]
    machines = ", ".join(dict.fromkeys(one.machine for one in series))
    most = max(len(one.points) for one in series)
    found = f"{len(steps)} step{'' if len(steps) == 1 else 's'}" if steps else "No step"
    said = [f"{found} in {len(series)} series of up to {most} measurements on {machines}."]
    for one, step in steps:
        point = one.points[step.index]
        levels = f"from {number_text(step.before, 3)} to {number_text(step.after, 3)} ({step.change:+.1%})"
        said.append(f"{one.scheme}, {one.case}: {levels} at commit {point.commit}, {point.when[:10]}")
    return said


def _newest(series: Sequence[Series]) -> Table:
    """Return the newest value of every series, what the gate allows, and its last step."""
    several = len({one.machine for one in series}) > 1
    rows = []
    for one in series:
        newest, steps = one.points[-1], one.steps
        allowed = "-".join(number_text(edge) for edge in one.band) if one.band else "-"
        last = f"{steps[-1].change:+.1%} at {one.points[steps[-1].index].commit}" if steps else "none"
        names = [text_cell(text) for text in (one.case, *([one.machine] if several else []), one.scheme)]
        value = Cell(interval_text(newest.speedup), newest.speedup.estimate)
        rows.append(Row([*names, value, *map(text_cell, (allowed, newest.commit or "-", last))]))
    heads = ["case", *(["machine"] if several else []), "scheme", "newest ratio", "allowed", "commit", "last step"]
    return Table("newest", "The newest ratio of every series", heads, rows)


def _figure(one: Series, name: str) -> Figure:
    title = f"one_stage over itself ({CONTROL})" if one.scheme == CONTROL else f"over {one.scheme}"
    starts = {step.index: step for step in one.steps}
    rows = [
        Row(
            [
                *(text_cell(text) for text in (point.when, point.commit or "-", point.source)),
                *(Cell(number_text(n, 3), n) for n in (point.speedup.estimate, point.speedup.low, point.speedup.high)),
                text_cell(f"{starts[index].change:+.1%}" if index in starts else ""),
            ]
        )
        for index, point in enumerate(one.points)
    ]
    heads = ["measured", "commit", "source", "ratio", "low", "high", "step"]
    table = Table(f"{name}-numbers", f"{title}: {len(rows)} measurements", heads, rows, folded=True)
    alt = f"The ratio {title} in {len(rows)} measurements, with {len(starts)} steps; its table has the numbers"
    return Figure(name, title, alt, table, drawn(partial(draw, one)))


def draw(one: Series) -> "Drawing":
    """Draw a series: points with intervals over their order in time, levels, steps, and what the gate allows."""
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    colour = colour_of("one_stage" if one.scheme == CONTROL else one.scheme)
    if one.band:
        axes.axhspan(*one.band, color="#EEEEEE", zorder=0)
    for index, point in enumerate(one.points):
        interval = point.speedup
        error = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
        face = colour if point.source == "run" else "white"
        axes.errorbar(
            index, interval.estimate, yerr=error, fmt="o", markersize=4, color=colour, markerfacecolor=face,
            elinewidth=1, capsize=2,
        )  # fmt: skip
    _levels(axes, one.steps, len(one.points))
    every = -(-len(one.points) // MOST_LABELS)
    ticks = range(0, len(one.points), every)
    labels = [(one.points[index].commit or "-")[:COMMIT] for index in ticks]
    axes.set_xticks(list(ticks), labels, fontsize=SMALL - 1, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(one.points) - 0.4)
    axes.margins(y=0.15)
    axes.tick_params(axis="y", labelsize=SMALL)
    return figure


def _levels(axes: "Axes", steps: Sequence[Step], count: int) -> None:
    bounds = [0, *(step.index for step in steps), count]
    levels = [steps[0].before, *(step.after for step in steps)] if steps else []
    for (start, end), level in zip(pairwise(bounds), levels, strict=False):
        axes.plot([start - 0.5, end - 0.5], [level, level], color="black", linewidth=1)
    for step in steps:
        axes.axvline(step.index - 0.5, color="black", linewidth=1, linestyle="--")
        axes.annotate(
            f"{step.change:+.1%}", (step.index - 0.5, 1), (3, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top", fontsize=SMALL,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
