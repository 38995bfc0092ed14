"""Bars in groups, a group a case and a bar a scheme: measured beside a ceiling, one quantity, or a step's phases."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.figures import SMALL, WIDTH, colour_of, lines_of

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, LINE = 0.19, 0.155
"""Inches: the height of a bar, and of a line of a group's name."""

FEW_CASES = 8
"""Up to so many cases a figure shows every scheme."""
CASES_A_FIGURE = 20

# light is forward, dark is backward; blue is G, red is D; none of them is a scheme's colour
PHASE_COLOURS = {
    "data": "#D9D9D9",
    "generator_forward": "#B9C8EA",
    "discriminator_forward": "#F0B8B4",
    "discriminator_backward": "#8E3B46",
    "generator_backward": "#3D4F8A",
    "optimizers": "#6E6E6E",
}


@dataclass(frozen=True)
class Bar:
    """A scheme's bar; without a value, only the text that says why."""

    scheme: str
    value: float | None
    low: float | None = None
    high: float | None = None
    ceiling: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Group:
    """The bars of one case."""

    name: str
    bars: Sequence[Bar]


def pages(cases: Sequence[Any]) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Yield the cases of each figure, after what its name and its title are followed by."""
    count = -(-len(cases) // CASES_A_FIGURE)
    for index in range(count):
        page = cases[index * CASES_A_FIGURE : (index + 1) * CASES_A_FIGURE]
        yield (f"-{index + 1}", f", part {index + 1} of {count}", page) if count > 1 else ("", "", page)


def draw_bars(groups: Sequence[Group], unit: str, *, line_at: float | None = None) -> "Figure":
    """Draw groups of bars with their intervals; a ceiling is the outline behind a bar."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure, axes, places = grid([(group.name, len(group.bars)) for group in groups])
    for group, rows in zip(groups, places, strict=True):
        for bar, y in zip(group.bars, rows, strict=True):
            colour = colour_of(bar.scheme)
            if bar.value is None:
                axes.annotate(
                    f"{bar.scheme}: {bar.text}", (0, y), (2, 0), textcoords="offset points", va="center", fontsize=SMALL
                )
                continue
            if bar.ceiling is not None:
                axes.barh(y, bar.ceiling, ROW * 0.92, facecolor="white", edgecolor=colour, linewidth=1)
            axes.barh(y, bar.value, ROW * (0.55 if bar.ceiling is not None else 0.8), color=colour)
            if bar.low is not None and bar.high is not None:
                error = [[bar.value - bar.low], [bar.high - bar.value]]
                axes.errorbar(bar.value, y, xerr=error, fmt="none", ecolor="black", elinewidth=1, capsize=2)
            end = max(v for v in (bar.value, bar.high, bar.ceiling) if v is not None)
            axes.annotate(bar.text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
    if line_at is not None:
        axes.axvline(line_at, color="black", linewidth=0.8, zorder=0)
    _finish(axes, unit, 1.16)
    present = dict.fromkeys(bar.scheme for group in groups for bar in group.bars if bar.value is not None)
    handles: list[Any] = [Patch(color=colour_of(scheme), label=scheme) for scheme in present]
    if any(bar.ceiling is not None for group in groups for bar in group.bars):
        handles.append(Patch(facecolor="white", edgecolor="#444444", label="FLOP ceiling"))
    if any(bar.low is not None for group in groups for bar in group.bars):
        handles.append(Line2D([], [], color="black", linewidth=1, label="95 % interval"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def draw_phases(groups: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]], unit: str) -> "Figure":
    """Draw (name, milliseconds by scheme and phase): a stacked bar a scheme, as shares of the group's longest."""
    from matplotlib.patches import Patch

    figure, axes, places = grid([(name, len(arms)) for name, arms in groups])
    ticks, labels = [], []
    for (_, arms), rows in zip(groups, places, strict=True):
        longest = max(sum(phases.values()) for phases in arms.values()) or 1.0
        for (scheme, phases), y in zip(arms.items(), rows, strict=True):
            start = 0.0
            for phase, colour in PHASE_COLOURS.items():
                share = 100 * phases.get(phase, 0.0) / longest
                axes.barh(y, share, ROW * 0.8, left=start, color=colour, edgecolor="white", linewidth=0.4)
                start += share
            axes.annotate(
                f"{sum(phases.values()):.3g} ms", (start, y), (4, 0), textcoords="offset points", va="center",
                fontsize=SMALL,
            )  # fmt: skip
            ticks.append(y)
            labels.append(scheme)
    axes.set_yticks(ticks, labels, fontsize=SMALL)
    _finish(axes, unit, 1.2)
    handles = [Patch(color=colour, label=phase.replace("_", " ")) for phase, colour in PHASE_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def grid(groups: Sequence[tuple[str, int]]) -> "tuple[Figure, Axes, list[list[float]]]":
    """Return a figure with a line for each group's name and a place for each of its bars, in inches from the top."""
    from matplotlib.figure import Figure

    names = [lines_of(name) for name, _ in groups]
    heads = [LINE * (name.count("\n") + 1.8) for name in names]
    height = sum(heads) + ROW * sum(count for _, count in groups)
    figure = Figure(figsize=(WIDTH, height + 1.7), layout="constrained")
    axes = figure.subplots()
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    places, y = [], 0.0
    for name, head, (_, count) in zip(names, heads, groups, strict=True):
        text = axes.annotate(
            name, (0.01, y + head / 2), xycoords=("figure fraction", "data"), va="center", fontweight="bold",
            fontsize=SMALL, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        text.set_in_layout(False)
        places.append([y + head + ROW * (i + 0.5) for i in range(count)])
        y += head + ROW * count
    return figure, axes, places


def _finish(axes: "Axes", unit: str, room: float) -> None:
    """Leave room for the texts beside the bars."""
    axes.set_xlim(0, max(axes.get_xlim()[1], 1e-9) * room)
    axes.set_xlabel(unit)
