"""A report as Markdown that GitHub shows well. Everything that comes from a suite or a data set is escaped.

The figures lie beside the file; `bench.report.figures` draws them.
"""

import html
import re
from pathlib import Path
from urllib.parse import quote

import jinja2

from bench.analysis.text import one_line, visible
from bench.report import document
from bench.report.document import Document, Table

TEMPLATES = Path(__file__).with_name("templates")


def render(report: Document) -> str:
    """Return the whole report as GitHub-flavoured Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    environment.filters |= {"md": escape, "line": escape_start, "summary": _summary, "path": quote, "rule": _rule}
    environment.globals |= {"kind": _kind, "fence": _fence}
    return environment.get_template("report.md.jinja").render(report=report)


def escape(text: object) -> str:
    """Return plain text as one line that Markdown shows as it is: no markup, HTML, table, link or formula."""
    line = one_line(text)
    line = re.sub(r"([\\`*_{}\[\]<>|~&!#$@])", r"\\\1", line)
    line = re.sub(r"(?i)(https?|ftp)://", r"\1\\://", line)
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", line)


def escape_start(text: object) -> str:
    """Return plain text escaped for the start of a line, where more is markup: lists, rules, underlined titles."""
    line = re.sub(r"^([-+=])", r"\\\1", escape(text))
    return re.sub(r"^(\d+)([.)])( |$)", r"\1\\\2\3", line)


def _summary(text: str) -> str:
    """Return plain text for an HTML element, where Markdown does not reach."""
    return html.escape(one_line(text))


def _rule(table: Table) -> str:
    """Return the line under a table's head: columns of numbers to the right."""
    rules = []
    for index in range(len(table.columns)):
        values = [row.cells[index].value for row in table.rows]
        numeric = any(isinstance(v, int | float) for v in values) and not any(isinstance(v, str) for v in values)
        rules.append("--:" if numeric else "---")
    return f"|{'|'.join(rules)}|"


def _fence(code: str) -> str:
    """Return a fence that is longer than any in the code."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    return "`" * max(3, longest + 1)


def _kind(block: document.Block) -> str:
    kinds = {document.Table: "table", document.Figure: "figure", document.Pictures: "pictures", document.Text: "text"}
    return next(name for kind, name in kinds.items() if isinstance(block, kind))
