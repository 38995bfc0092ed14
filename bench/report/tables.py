"""Tables of one quantity, a row a case and a column a scheme: pure functions of results."""

import statistics
from collections.abc import Callable, Sequence

from bench.analysis.efficiency import busy_shares, matmul_shares
from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Table
from bench.report.words import number_text, share_text
from bench.results.rows import CaseRow

Value = Callable[[CaseRow, str], Cell]

MISSING = Cell("-", None)


def scheme_table(
    columns: Columns,
    column: Column,
    name: str,
    title: str,
    value: Value,
    rows: Sequence[CaseRow] | None = None,
    *,
    note: str = "",
) -> Table | None:
    """Return a folded table of a quantity, of all cases or of these; None where no arm of them has it."""
    shown = [
        Row([text_cell(columns.name(row)), *(value(row, scheme) for scheme in column.schemes)])
        for row in (column.run.timed if rows is None else rows)
    ]
    if all(cell.value is None for row in shown for cell in row.cells[1:]):
        return None
    heads = ["case", *column.schemes]
    return Table(f"{name}{column.suffix}", f"{title}{column.where}", heads, shown, note, folded=True)


def number_of(key: str, digits: int, scale: float = 1.0) -> Value:
    """Return what reads a number of an arm."""

    def value(row: CaseRow, scheme: str) -> Cell:
        found = quantity(row, scheme, key)
        return MISSING if found is None else Cell(f"{found / scale:,.{digits}f}", found / scale)

    return value


def quantity(row: CaseRow, scheme: str, key: str) -> float | None:
    """Return a number of an arm; None where it was not measured."""
    arm = row.arms.get(scheme)
    number: float | None = getattr(arm, key) if arm else None
    return number


def matmul(row: CaseRow, scheme: str) -> Cell:
    """Return the FLOP/s achieved over those of a large matrix product."""
    return _share(matmul_shares(row, scheme))


def idle(row: CaseRow, scheme: str) -> Cell:
    """Return the share of a step in which the GPU is idle."""
    shares = busy_shares(row, scheme)
    return _share([1 - share for share in shares] if shares else None)


def _share(shares: Sequence[float] | None) -> Cell:
    if not shares:
        return MISSING
    median = statistics.median(shares)
    return Cell(share_text(median), median)


def milliseconds(row: CaseRow, scheme: str) -> Cell:
    """Return the median time of a step."""
    arm = row.arms.get(scheme)
    if arm is None or not arm.wall_ms:
        return MISSING
    median = statistics.median(arm.wall_ms)
    return Cell(number_text(median), median)


def text_cell(text: str) -> Cell:
    """Return a cell of text, which is also what it is sorted by."""
    return Cell(text, text)
