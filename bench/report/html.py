"""A report as one page that needs nothing else: opened from disk, printed, or read without JavaScript.

What the page says is the document's; how it looks is templates/report.css, what its buttons do templates/report.js. All
text is escaped, the policy in the page's head forbids it the network and any script or style but these two.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from bench.analysis.text import visible
from bench.report.document import Document, Table
from bench.report.formats import table_csv

TEMPLATES = Path(__file__).with_name("templates")
NUMBER_LENGTH = 30
"""Characters of the longest number with its interval and unit; more is a sentence."""


def render(document: Document, *folders: Path) -> str:
    """Return the page of a document whose figures and pictures lie in one of the folders."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["breakable"] = lambda text: escape(visible(text)).replace("+", Markup("+<wbr>"))
    environment.globals.update(
        kind=lambda block: type(block).__name__,
        numeric=_numeric_columns,
        csv=lambda table: _data_url("text/csv", table_csv(table).encode()),
        figure=lambda name: _data_url("image/svg+xml", _read(folders, f"{name}.svg")),
        picture=lambda path: _data_url("image/png", _read(folders, path)),
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sections = [section for section in document.sections if section.blocks]
    return environment.get_template("report.html.jinja").render(
        document=document,
        sections=sections,
        standing={block.name for section in sections for block in section.blocks if isinstance(block, Table)},
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _numeric_columns(table: Table) -> list[bool]:
    """Whether each column is of numbers, missing ones aside, and as short as numbers are: those go to the right."""
    numeric = []
    for index in range(len(table.columns)):
        cells = [row.cells[index] for row in table.rows]
        values = [cell.value for cell in cells if cell.value is not None]
        short = all(len(cell.text) <= NUMBER_LENGTH for cell in cells)
        numeric.append(short and bool(values) and not any(isinstance(value, str) for value in values))
    return numeric


def _read(folders: Sequence[Path], name: str) -> bytes:
    return next((path for folder in folders if (path := folder / name).is_file()), folders[0] / name).read_bytes()


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
