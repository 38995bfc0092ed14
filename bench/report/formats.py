"""CSV and LaTeX of what the report shows, for spreadsheets and papers: pandas writes both.

Raw numbers in CSV, empty where one is missing. Names come from suites and data sets: a text that a spreadsheet would
take for a formula gets an apostrophe before it (OWASP, CSV injection); numbers are never touched.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.analysis.speedup import CONFIDENCE, Comparison
from bench.analysis.text import one_line, visible
from bench.report.columns import ALL_AXES, Column, Columns, columns_of
from bench.report.document import Table
from bench.report.words import comparison_text, interval_text, mark, mark_lines, number_text
from bench.results import CaseRow, Run
from osgan.errors import InputError

if TYPE_CHECKING:  # pandas is imported by what writes: half a second
    import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet reads as the start of a formula, full-width forms too."""

HEADS = (
    *("run", "machine", *ALL_AXES, "baseline", "verdict", "speedup", "low", "high", "ceiling", "efficiency"),
    *("processes", "ran_as", "unmatched", "reason"),
)
PACKAGES = "% \\usepackage{array,booktabs,longtable} \\usepackage[T1]{fontenc}; names beyond Latin letters: LuaLaTeX\n"


def speedup_csv(runs: Sequence[Run]) -> str:
    """Return the speedups of runs, a row for each case, baseline and machine, numbers at full precision.

    Raises InputError where nothing was timed.
    """
    import pandas as pd

    rows = [
        _row(column, row, summary.comparisons[index])
        for column in _timed(runs)
        for index, row in enumerate(column.run.timed)
        for summary in column.summaries
    ]
    return _csv(pd.DataFrame(rows, columns=HEADS, dtype=object))


def table_csv(table: Table) -> str:
    """Return a table of the report: the values that its cells are sorted by, totals last."""
    import pandas as pd

    rows = [[cell.value for cell in row.cells] for row in sorted(table.rows, key=lambda row: row.total)]
    return _csv(pd.DataFrame(rows, columns=list(table.columns), dtype=object))


def speedup_latex(runs: Sequence[Run]) -> str:
    """Return the speedups of runs with intervals and means as a LaTeX `longtable` with the rules of booktabs.

    Raises InputError where nothing was timed.
    """
    import pandas as pd

    columns = _timed(runs)
    rows = []
    for column in columns:
        machine = one_line(column.label)
        for index, row in enumerate(column.run.timed):
            name = one_line(columns.name(row))
            found = [summary.comparisons[index] for summary in column.summaries]
            rows += [(machine, name, c.baseline, comparison_text(c), number_text(c.ceiling)) for c in found]
        for summary in column.summaries if column.run.timed else ():
            mean = interval_text(summary.overall) or "-"
            rows.append((machine, "geometric mean", summary.baseline, mean, number_text(summary.ceiling)))
    heads = ["machine", "case", "baseline", f"speedup ({CONFIDENCE:.0%} interval)", "ceiling"]
    frame = pd.DataFrame(rows, columns=heads).set_index(heads[:3])
    if columns.alone:
        frame = frame.droplevel("machine")
    width = 0.24 if columns.alone else 0.16  # of the line: the rest fits the text of an article
    latex = frame.to_latex(
        escape=True,
        longtable=True,
        multirow=False,
        column_format=f">{{\\raggedright}}p{{{width}\\linewidth}}" * (frame.index.nlevels - 1) + "lrr",
        caption="Time of a baseline's step over that of one stage; \\textasciitilde{} marks an interval that holds 1.",
        label="tab:speedup",
    )
    marks = "".join(f"% {line}\n" for line in mark_lines([row for column in columns for row in column.run.timed]))
    return f"{PACKAGES}{marks}\\begingroup\\small\n{latex}\\endgroup\n"


def _timed(runs: Sequence[Run]) -> Columns:
    columns = columns_of(runs)
    if not columns.cases:
        paths = ", ".join(str(run.path) for run in columns.runs)
        raise InputError(f"{paths}: no case was timed, so there are no speedups; leave --format out for its quality")
    return columns


def _row(column: Column, row: CaseRow, found: Comparison) -> list[object]:
    speedup = found.speedup
    return [
        column.run.path.name,
        column.label,
        *(getattr(row.case, axis) for axis in ALL_AXES),
        found.baseline,
        found.verdict,
        *((speedup.estimate, speedup.low, speedup.high) if speedup else (None, None, None)),
        found.ceiling,
        found.efficiency,
        speedup.num_processes if speedup else None,
        found.ran_as,
        "UNMATCHED" in mark(row),
        found.reason,
    ]


def _csv(frame: "pd.DataFrame") -> str:
    return frame.rename(columns=_guard).map(_guard).to_csv(index=False, lineterminator="\n")


def _guard(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(FORMULA) else text
