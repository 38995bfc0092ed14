"""The paper's own kind of figure: the metric against images and against minutes of training, with a band over seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.speedup import PAPER_BASELINE, REFERENCE
from bench.analysis.time_to_quality import Study, Trained
from bench.report.figures import SMALL, WIDTH, colour_of, label_of, lines_of, plain_log

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """The seeds of a scheme at one evaluation."""

    images: float
    minutes: float
    median: float
    low: float
    high: float
    num_seeds: int


def curve(runs: Sequence[Trained]) -> list[Point]:
    """Return the median and the range over the seeds, as far as every seed that was judged at all came."""
    judged = [run for run in runs if run.values]
    points = []
    for i in range(min((len(run.values) for run in judged), default=0)):
        values = [run.values[i] for run in judged]
        images = statistics.median(run.images[i] for run in judged)
        minutes = statistics.median(run.seconds[i] / 60 for run in judged)
        points.append(Point(images, minutes, statistics.median(values), min(values), max(values), len(judged)))
    return points


def draw_study(study: Study, title: str) -> "Figure":
    """Draw a study: one-stage solid, the others dashed, an arrow from the baseline's end to one-stage's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 6.0), layout="constrained")
    by_images, by_minutes = figure.subplots(2, 1, sharey=True)
    figure.suptitle(lines_of(title), fontsize=SMALL, fontweight="bold", x=0.02, ha="left")
    for scheme, runs in study.arms.items():
        if points := curve(runs):
            _band(by_images, scheme, [point.images for point in points], points)
            _band(by_minutes, scheme, [point.minutes for point in points], points)
    baseline = PAPER_BASELINE if study.arms.get(PAPER_BASELINE) else study.baseline
    _arrow(by_minutes, study.arms.get(baseline or "", []), study.arms.get(REFERENCE, []))
    by_images.set_yscale("log")
    plain_log(by_images.yaxis)
    by_images.set_xlabel("images seen")
    by_minutes.set_xlabel("minutes of training")
    for axes in (by_images, by_minutes):
        axes.set_ylabel(f"{label_of(study.metric, 30)}, log\n(median and range of seeds)")
        axes.set_xlim(left=0)
    figure.legend(*by_images.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _band(axes: "Axes", scheme: str, places: Sequence[float], points: Sequence[Point]) -> None:
    """Draw the median over the seeds at each evaluation, and between the lowest and the highest."""
    colour, solid = colour_of(scheme), scheme == REFERENCE
    axes.plot(
        places, [p.median for p in points], "o-" if solid else "o--", color=colour, label=scheme, linewidth=1.8,
        markersize=3,
    )  # fmt: skip
    axes.fill_between(places, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, linewidth=0)


def _arrow(axes: "Axes", baseline: list[Trained], mine: list[Trained]) -> None:
    """Point from where the baseline ends to where one-stage does, at the same number of images."""
    ends = [
        statistics.median(run.seconds[-1] / 60 for run in runs if run.final is not None)
        for runs in (baseline, mine)
        if any(run.final is not None for run in runs)
    ]
    if len(ends) < 2:
        return
    low = min(run.final for runs in (baseline, mine) for run in runs if run.final is not None)
    axes.annotate(
        "", xy=(ends[1], low), xytext=(ends[0], low), arrowprops={"arrowstyle": "->", "color": "black", "lw": 1.2}
    )
    axes.annotate(
        f"{ends[0] / ends[1]:.2f}x", (sum(ends) / 2, low), ha="center", va="bottom", fontsize=SMALL,
        xytext=(0, 2), textcoords="offset points",
    )  # fmt: skip
