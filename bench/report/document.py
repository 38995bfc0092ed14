"""What a report is before it is Markdown, HTML, CSV or LaTeX: sections of text, tables, figures and pictures.

All text here is plain: whatever writes a format escapes it. What is said, and in which order, is `bench.report.pages`'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, a smaller second line, and what sorting and a download take (None: missing)."""

    text: str
    value: float | str | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Cells in the order of the table's columns; the first names the row. A total is last however rows are sorted."""

    cells: Sequence[Cell]
    total: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `name` is unique in the report and fit for a file name and an HTML id."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    """What must be known to read it, as a sentence or two below."""
    folded: bool = False
    """Long and for those who look for it: closed at first."""


@dataclass(frozen=True)
class Figure:
    """A picture drawn from a table, which stands beside it or below; its file is `name`.svg beside the report."""

    name: str
    title: str
    alt: str
    table: Table
    draw: Callable[[Path], None] | None = field(default=None, compare=False, repr=False)
    """Draws it to a file; `bench.report.figures.save` calls it."""


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side: (caption, path relative to the report)."""

    title: str
    pictures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Text:
    """Paragraphs, a bulleted list, a block of code to be copied, or links: (text, path relative to the report)."""

    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    code: str = ""
    links: Sequence[tuple[str, str]] = ()


Block = Table | Figure | Pictures | Text


@dataclass(frozen=True)
class Section:
    """A section, left out of the report when it has no block."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report. `verdict` is its first lines: what was found, with intervals, and whether the claim holds."""

    title: str
    verdict: Sequence[str]
    sections: Sequence[Section]
