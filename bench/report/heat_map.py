"""The speedup over data set, architecture and loss as a map of colours, and the table it is drawn from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.analysis.speedup import CLAIMED, Comparison
from bench.report.bar_figures import ROW, grid
from bench.report.columns import Column, Columns
from bench.report.document import Cell, Figure, Row, Table
from bench.report.figures import SMALL, drawn, label_of
from bench.report.words import number_text
from bench.results.store import slug

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.figure import Figure as Drawing

COLOUR_MAP = "cividis"


@dataclass(frozen=True)
class Square:
    """One cell of the map; without a value, it says why."""

    text: str
    value: float | None


Map = tuple[list[str], list[str], dict[tuple[str, str], Square]]


def heat_map(columns: Columns, column: Column, baseline: str) -> Figure | None:
    """Return the map of a column's speedups against a baseline; None where there is one case or none."""
    summary = column.summary(baseline)
    if summary is None or len(summary.comparisons) < 2:
        return None
    rows, losses, squares = _squares(columns, summary.comparisons)
    name = f"heat-map-{slug(baseline)}{column.suffix}"
    title = f"Speedup over {baseline}{column.where}"
    table = Table(
        f"{name}-numbers",
        f"{title}, by loss",
        ["data set, architecture", *losses],
        [
            Row([Cell(row, row), *(_cell(squares.get((row, loss))) for loss in losses)])
            for row in rows
        ],
        folded=True,
    )  # fmt: skip
    alt = f"Map of the speedup over {baseline} by data set, architecture and loss; the numbers stand in its table"
    return Figure(name, title, alt, table, drawn(partial(_draw, rows, losses, squares)))


def _squares(columns: Columns, comparisons: Sequence[Comparison]) -> Map:
    squares: dict[tuple[str, str], Square] = {}
    for found in comparisons:
        place = columns.short(found.case, without=("loss",)), found.case.loss
        squares[place] = _square(found)
    rows = list(dict.fromkeys(row for row, _ in squares))
    return rows, list(dict.fromkeys(loss for _, loss in squares)), squares


def _square(found: Comparison) -> Square:
    if found.speedup is None:
        return Square(found.verdict, None)
    marks = ("~" if found.verdict == "inconclusive" else "") + ("\N{DAGGER}" if found.ran_as else "")
    return Square(number_text(found.speedup.estimate) + (f" {marks}" if marks else ""), found.speedup.estimate)


def _cell(square: Square | None) -> Cell:
    return Cell("") if square is None else Cell(square.text, square.value)


def _draw(rows: Sequence[str], losses: Sequence[str], squares: dict[tuple[str, str], Square]) -> "Drawing":
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    values = [square.value for square in squares.values() if square.value is not None]
    limit = max([CLAIMED, *values, *(1 / value for value in values)])
    norm, colours = LogNorm(1 / limit, limit), matplotlib.colormaps[COLOUR_MAP]  # 1.0 in the middle of the map
    figure, axes, places = grid([(row, 2) for row in rows])
    tops = dict(zip(rows, (place[0] - ROW / 2 for place in places), strict=True))
    for (row, loss), square in squares.items():
        x, y, tall = losses.index(loss), tops[row], 2 * ROW
        if square.value is None:
            axes.add_patch(Rectangle((x, y), 1, tall, facecolor="white", edgecolor="#888888", hatch="////"))
            colour, box = "black", {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        else:
            face = colours(norm(square.value))
            axes.add_patch(Rectangle((x, y), 1, tall, facecolor=face, edgecolor="white"))
            colour, box = text_colour(face), None
        axes.text(x + 0.5, y + ROW, square.text, ha="center", va="center", color=colour, fontsize=SMALL, bbox=box)
    axes.set_xlim(0, max(len(losses), 3))
    axes.set_xticks(
        [index + 0.5 for index in range(len(losses))], [label_of(loss, 28) for loss in losses], rotation=25, ha="right"
    )
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)
    mapped = ScalarMappable(norm, colours)
    bar = figure.colorbar(mapped, ax=axes, orientation="horizontal", aspect=40, fraction=0.05)
    ticks = [1 / limit, 1.0, CLAIMED, *([limit] if limit > 1.15 * CLAIMED else [])]
    bar.set_ticks(ticks, labels=[number_text(tick) for tick in ticks])
    bar.minorticks_off()
    bar.ax.axvline(1.0, color="white", linewidth=2)
    bar.set_label("ratio of step times, baseline over one_stage\n(white line: 1.0; ~ inconclusive)")
    return figure


def text_colour(face: Sequence[float]) -> str:
    """Return black or white, whichever contrasts more with a colour (WCAG's relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else math.pow((c + 0.055) / 1.055, 2.4) for c in face[:3]]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"
