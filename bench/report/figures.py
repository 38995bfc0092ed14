"""The report's figures, drawn by matplotlib as SVG without anything that changes from run to run."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bench.speedup import Summary

# Okabe and Ito's colour-blind safe palette; a scheme has the same colour everywhere.
COLOURS = {
    "two_stage": "#D55E00",
    "two_stage_frozen": "#E69F00",
    "two_stage_reused": "#CC79A7",
    "two_stage_reused_frozen": "#0072B2",
    "simultaneous": "#56B4E9",
    "one_stage": "#009E73",
}

STYLE: Any = {
    "svg.hashsalt": "osgan",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def save_speedups(summaries: list[Summary], labels: list[str], path: Path) -> None:
    """Draw the measured speedup of every case and baseline with its interval, and a mark at its FLOP ceiling."""
    with matplotlib.rc_context(STYLE):
        height = 0.17 * len(labels) * (len(summaries) + 1.2) + 1.0
        figure = Figure(figsize=(7.5, max(2.4, height)), layout="constrained")
        axes = figure.subplots()
        thickness = 1 / (len(summaries) + 1.2)
        for row, summary in enumerate(summaries):
            rows = [
                (index + (row - (len(summaries) - 1) / 2) * thickness, comparison)
                for index, comparison in enumerate(summary.comparisons)
            ]
            shown = [(y, c.speedup, c.ceiling) for y, c in rows if c.speedup]
            axes.barh(
                [y for y, _, _ in shown],
                [s.estimate for _, s, _ in shown],
                thickness * 0.85,
                color=COLOURS.get(summary.baseline, "#999999"),
                label=summary.baseline,
            )
            axes.errorbar(
                [s.estimate for _, s, _ in shown],
                [y for y, _, _ in shown],
                xerr=[[s.estimate - s.low for _, s, _ in shown], [s.high - s.estimate for _, s, _ in shown]],
                fmt="none",
                ecolor="black",
                elinewidth=1,
                capsize=2,
            )
            ceilings = [(ceiling, y) for y, _, ceiling in shown if ceiling]
            axes.plot([c for c, _ in ceilings], [y for _, y in ceilings], "kD", markersize=3.5, linestyle="none")
            for y, comparison in rows:
                if not comparison.speedup:
                    axes.text(0.02, y, f"{comparison.baseline}: {comparison.verdict}", va="center", fontsize=7)
        axes.plot([], [], "kD", markersize=3.5, linestyle="none", label="FLOP ceiling")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(range(len(labels)), [label.replace(", ", "\n") for label in labels])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("time of a step / time of a one_stage step\n(95 % interval)")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
