"""Tables of one quantity, a row a case and a column a scheme: pure functions of results."""

import statistics
from collections.abc import Callable, Sequence

from bench.analysis.efficiency import busy_shares, matmul_shares
from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Table
from bench.report.words import number_text, share_text
from bench.results.store import Record

Value = Callable[[Record, str], Cell]

MISSING = Cell("-", None)


def scheme_table(
    columns: Columns,
    column: Column,
    name: str,
    title: str,
    value: Value,
    records: Sequence[Record] | None = None,
    *,
    note: str = "",
) -> Table | None:
    """Return a folded table of a quantity, of all cases or of these; None where no arm of them has it."""
    rows = [
        Row([text_cell(columns.name(record)), *(value(record, scheme) for scheme in column.schemes)])
        for record in (column.run.cases if records is None else records)
    ]
    if all(cell.value is None for row in rows for cell in row.cells[1:]):
        return None
    heads = ["case", *column.schemes]
    return Table(f"{name}{column.suffix}", f"{title}{column.where}", heads, rows, note, folded=True)


def number_of(key: str, digits: int, scale: float = 1.0) -> Value:
    """Return what reads a number of an arm's record."""

    def value(record: Record, scheme: str) -> Cell:
        found = quantity(record, scheme, key)
        return MISSING if found is None else Cell(f"{found / scale:,.{digits}f}", found / scale)

    return value


def quantity(record: Record, scheme: str, key: str) -> float | None:
    """Return a number of an arm's record; None where it was not measured."""
    number: float | None = record["arms"].get(scheme, {}).get(key)
    return number


def matmul(record: Record, scheme: str) -> Cell:
    """Return the FLOP/s achieved over those of a large matrix product."""
    return _share(matmul_shares(record, scheme))


def idle(record: Record, scheme: str) -> Cell:
    """Return the share of a step in which the GPU is idle."""
    shares = busy_shares(record, scheme)
    return _share([1 - share for share in shares] if shares else None)


def _share(shares: Sequence[float] | None) -> Cell:
    if not shares:
        return MISSING
    median = statistics.median(shares)
    return Cell(share_text(median), median)


def milliseconds(record: Record, scheme: str) -> Cell:
    """Return the median time of a step."""
    times = record["arms"].get(scheme, {}).get("wall_ms")
    if not times:
        return MISSING
    median = statistics.median(times)
    return Cell(number_text(median), median)


def text_cell(text: str) -> Cell:
    """Return a cell of text, which is also what it is sorted by."""
    return Cell(text, text)
