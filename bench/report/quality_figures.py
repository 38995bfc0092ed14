"""The metric over seconds of training: median and range of the seeds, the level, and when each arm is there."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.passage import mean_interval
from bench.analysis.speedup import REFERENCE
from bench.analysis.time_to_quality import Study
from bench.report.figures import SMALL, WIDTH, colour_of, label_of, lines_of, plain_log
from bench.report.quality_words import contest_text, sooner_word

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTCOMES = {"yes": "#00734F", "no, later": "#A63A00"}
"""Colours of a sentence by what it says; of any other grey."""
GREY = "#555555"
STAGGER = 0.06
"""By how much of the axis the arms' crossings stand apart, for their intervals to be told from each other."""


@dataclass(frozen=True)
class Point:
    """The seeds of a scheme at one evaluation."""

    images: float
    minutes: float
    median: float
    low: float
    high: float
    num_seeds: int


def curve(study: Study, scheme: str) -> list[Point]:
    """Return the median and the range over the seeds, as far as every seed that was judged at all came."""
    judged = [run for run in study.arms[scheme] if run.values]
    rate = study.pace.seconds_an_image(scheme)
    points = []
    for i in range(min((len(run.values) for run in judged), default=0)):
        values = [run.values[i] for run in judged]
        images = statistics.median(run.images[i] for run in judged)
        minutes = images * (rate or 0.0) / 60
        points.append(Point(images, minutes, statistics.median(values), min(values), max(values), len(judged)))
    return points


def draw_panels(panels: Sequence[tuple[str, Study]], title: str) -> "Figure":
    """Draw a panel for each study, under its name and what it says of one-stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.9 + 3.1 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    figure.suptitle(lines_of(title), fontsize=SMALL, fontweight="bold", x=0.02, ha="left")
    for axes, (name, study) in zip(rows, panels, strict=True):
        _draw(axes, study)
        contest = next((found for found in study.contests() if found.scheme == REFERENCE), None)
        lines = [label_of(name), *([contest_text(contest).replace(": ", ":\n")] if contest else [])]
        colour = OUTCOMES.get(sooner_word(contest.time), GREY) if contest else GREY
        axes.set_title("\n".join(lines), fontsize=SMALL, color=colour, loc="left")
    rows[-1].set_xlabel("minutes of training")
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw(axes: "Axes", study: Study) -> None:
    for scheme in study.arms:
        if points := curve(study, scheme):
            _band(axes, scheme, points)
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_ylabel(f"{label_of(study.metric, 30)}, log\n(median and range of seeds)")
    axes.set_xlim(left=0)
    if study.levels:
        _crossings(axes, study)


def _band(axes: "Axes", scheme: str, points: Sequence[Point]) -> None:
    """Draw the median over the seeds at each evaluation, and between the lowest and the highest."""
    colour, solid, places = colour_of(scheme), scheme.startswith(REFERENCE), [point.minutes for point in points]
    axes.plot(
        places, [p.median for p in points], "o-" if solid else "o--", color=colour, label=scheme, linewidth=1.8,
        markersize=3,
    )  # fmt: skip
    axes.fill_between(places, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.12, linewidth=0)


def _crossings(axes: "Axes", study: Study) -> None:
    """Draw the first level, and on it each arm's mean time with its interval."""
    level = study.levels[0]
    axes.axhline(level.value, color="black", linewidth=0.8, linestyle=":")
    low_end, high_end = axes.get_ylim()
    axes.set_xlim(right=axes.get_xlim()[1])
    for index, reached in enumerate(level.reached.values()):
        rate = reached.seconds_an_image
        found = mean_interval([passage.images for passage in reached.passages.values()])
        if rate is None or found is None or not reached.num_reached:
            continue
        minutes, low, high = (images * rate / 60 for images in (found.estimate, found.low, found.high))
        height = level.value * (high_end / low_end) ** (STAGGER * (index - (len(level.reached) - 1) / 2))
        axes.errorbar(
            minutes, height, xerr=[[minutes - low], [high - minutes]], fmt="D", markersize=5, capsize=3,
            color=colour_of(reached.scheme), markeredgecolor="black", zorder=5,
        )  # fmt: skip
