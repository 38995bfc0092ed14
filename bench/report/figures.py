"""The look of the report's figures, and their files: SVG by matplotlib without anything that changes from run to run.

Drawn on white, narrow enough to be read on a telephone. A scheme has the same colour everywhere.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.text import one_line
from bench.report import document
from bench.report.document import Document

if TYPE_CHECKING:  # matplotlib is imported by what draws: half a second
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colour-blind safe palette
COLOURS = {
    "two_stage": "#D55E00",
    "two_stage_frozen": "#E69F00",
    "two_stage_reused": "#CC79A7",
    "two_stage_reused_frozen": "#0072B2",
    "simultaneous": "#56B4E9",
    "one_stage": "#009E73",
    "one_stage_staggered": "#000000",
}
OTHER = "#999999"

WIDTH = 4.6
"""Inches: 440 pixels, which a telephone shows at four fifths."""
SMALL = 9

STYLE: Any = {
    "svg.hashsalt": "osgan",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,  # names are a suite's: a $ in one is a dollar
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
}


def save(report: Document, folder: Path) -> None:
    """Draw every figure of a report to its file in `folder`."""
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, document.Figure) and block.draw:
                block.draw(folder / f"{block.name}.svg")


def drawn(draw: "Callable[[], Figure]") -> Callable[[Path], None]:
    """Return what draws a figure to a file in the report's style."""

    def to_file(path: Path) -> None:
        import matplotlib

        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # text stays text in the SVG: whoever shows it has the letters that this machine's font lacks
            warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
            draw().savefig(path, metadata={"Date": None, "Creator": None})

    return to_file


def colour_of(scheme: str) -> str:
    """Return a scheme's colour."""
    return COLOURS.get(scheme, OTHER)


def label_of(text: str, length: int = 54) -> str:
    """Return a name fit for a figure: its middle left out where it is longer than that."""
    line = one_line(text)
    half = (length - 3) // 2
    return line if len(line) <= length else f"{line[:half]} \N{HORIZONTAL ELLIPSIS} {line[-half:]}"


def lines_of(text: str, width: int = 54, at_most: int = 2) -> str:
    """Return a name broken into so many lines at most, after a comma or before an option where it can be."""
    lines = [""]
    for part in re.split(r"(?<=, )|(?=\+)", label_of(text, width * at_most)):
        if lines[-1] and len(f"{lines[-1]}{part}".rstrip()) > width and len(lines) < at_most:
            lines.append("")
        lines[-1] += part
    return "\n".join(label_of(line, width) for line in lines)


def plain_log(axis: "Axis") -> None:
    """Label an axis of logarithms, its data drawn, with plain numbers: more of them where it spans little."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high > 8 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(NullFormatter())
