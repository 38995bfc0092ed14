"""The paper's own kind of figure: the metric against images and against minutes of training, with a band over seeds."""

import statistics
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.figures import COLOURS, STYLE
from bench.speedup import PAPER_BASELINE, REFERENCE
from bench.time_to_quality import Study, Trained


def save_quality(study: Study, path: Path) -> None:
    """Draw a study: one-stage solid, the others dashed, an arrow from the baseline's end to one-stage's."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.4), layout="constrained")
        by_images, by_minutes = figure.subplots(1, 2, sharey=True)
        for scheme, runs in study.arms.items():
            whole = [run for run in runs if run.values]
            if whole:
                _band(by_images, scheme, whole, [whole[0].images[: _shortest(whole)]] * len(whole))
                _band(by_minutes, scheme, whole, [[s / 60 for s in run.seconds] for run in whole])
        baseline = PAPER_BASELINE if study.arms.get(PAPER_BASELINE) else study.baseline
        _arrow(by_minutes, study.arms.get(baseline or "", []), study.arms.get(REFERENCE, []))
        by_images.set_yscale("log")
        by_images.set_ylabel(f"{study.metric}\n(median and range of seeds)")
        by_images.set_xlabel("images seen")
        by_minutes.set_xlabel("minutes of training")
        for axes in (by_images, by_minutes):
            axes.set_xlim(left=0)
        figure.legend(*by_images.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _shortest(runs: list[Trained]) -> int:
    return min(len(run.values) for run in runs)


def _band(axes: Axes, scheme: str, runs: list[Trained], places: list[list[float]] | list[list[int]]) -> None:
    """Draw the median over the seeds at each evaluation, and between the lowest and the highest."""
    n = _shortest(runs)
    x = [statistics.median(place[i] for place in places) for i in range(n)]
    columns = [[run.values[i] for run in runs] for i in range(n)]
    colour = COLOURS.get(scheme, "#999999")
    solid = scheme == REFERENCE
    axes.plot(
        x, [statistics.median(c) for c in columns], "-" if solid else "--", color=colour, label=scheme, linewidth=1.8
    )
    axes.fill_between(x, [min(c) for c in columns], [max(c) for c in columns], color=colour, alpha=0.15, linewidth=0)


def _arrow(axes: Axes, baseline: list[Trained], mine: list[Trained]) -> None:
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
        f"{ends[0] / ends[1]:.2f}x", (sum(ends) / 2, low), ha="center", va="top", fontsize=8,
        xytext=(0, -4), textcoords="offset points",
    )  # fmt: skip
