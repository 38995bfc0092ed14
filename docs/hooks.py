"""What `mkdocs build` adds to the written pages: reference pages made from the code, committed reports, equations.

Nothing is fetched: TeX becomes MathML here, which browsers set by themselves.
"""

import html
import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # bench is a program of the repository, not installed

from generate import commands_page, results_page, suites_page  # noqa: E402

REPORTS = "reports/reference"
HERE = "cpu-2-cores"
"""The machine whose reports stand without its name in the path."""
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that the code writes, and the reports that are committed."""
    pages = {"commands.md": commands_page(), "suites.md": suites_page(), "results.md": results_page()}
    for path, page in pages.items():
        if written := files.get_file_from_path(path):
            files.remove(written)
        files.append(File.generated(config, path, content=page))
    reports = sorted((ROOT / REPORTS).glob("*/*/*/report.md"))
    newest = {report.parts[-4:-2]: report for report in reports}  # of a machine and a suite
    for (machine, suite), report in newest.items():
        where = f"reports/{suite}" if machine == HERE else f"reports/{machine}/{suite}"
        for file in report.parent.rglob("*"):
            if file.is_file():
                name = f"{where}/{file.relative_to(report.parent)}"
                files.append(File.generated(config, name, abs_src_path=str(file)))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Set the equations."""
    return EQUATION.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return latex2mathml.converter.convert(html.unescape(found[2]), display=display)
