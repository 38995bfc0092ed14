"""The section on what a step costs with a penalty: cases that differ in the penalties of their loss alone."""

import statistics

from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Section, Table
from bench.report.tables import MISSING, quantity, text_cell
from bench.report.words import mark, number_text
from bench.results.rows import CaseRow
from bench.suite.cases import Case

EXACT = ("r1", "r2", "gradient_penalty")
BASELINE = "two_stage_frozen"
NOTE = (
    f"FLOPs of a step over those of {BASELINE}, as R3GAN's own trainer does it, with the exact penalties; below, its "
    "median time over that one's. These are cases that were timed one after the other: their times are not paired. ar1 "
    "and ar2 are approximate, finite differences of D's logits."
)


def section(columns: Columns) -> Section:
    """Return the section; it is empty where no case has both an exact penalty and one without, or approximate."""
    tables = [table for column in columns for table in _tables(columns, column)]
    return Section("penalties", "What a step costs with a penalty", tables)


def _tables(columns: Columns, column: Column) -> list[Table]:
    groups: dict[Case, list[CaseRow]] = {}
    for row in column.run.timed:
        if row.case.is_gan:
            plain = row.case.model_copy(update={"loss": row.case.loss.partition("+")[0]})
            groups.setdefault(plain, []).append(row)
    tables: list[Table] = []
    for plain, rows in groups.items():
        reference = next((row for row in rows if _is_exact(row.case.loss)), None)
        if reference is None or len(rows) < 2 or BASELINE not in reference.arms:
            continue
        shown = [
            Row([text_cell(_penalties(row)), *(_cost(row, scheme, reference) for scheme in column.schemes)])
            for row in rows
        ]
        name = f"penalties-{len(tables) + 1}{column.suffix}"
        tables.append(Table(name, f"{columns.short(plain)}{column.where}", ["penalties", *column.schemes], shown, NOTE))
    return tables


def _is_exact(loss: str) -> bool:
    return any(part.partition("=")[0] in EXACT for part in loss.split("+")[1:])


def _penalties(row: CaseRow) -> str:
    return (" + ".join(row.case.loss.split("+")[1:]) or "none") + mark(row)


def _cost(row: CaseRow, scheme: str, reference: CaseRow) -> Cell:
    flops, theirs = quantity(row, scheme, "flops"), quantity(reference, BASELINE, "flops")
    if not flops or not theirs:
        return MISSING
    here, there = _milliseconds(row, scheme), _milliseconds(reference, BASELINE)
    note = f"{number_text(here / there)} of its time" if here and there else ""
    return Cell(f"{flops / theirs:.2f}", flops / theirs, note)


def _milliseconds(row: CaseRow, scheme: str) -> float | None:
    times = row.arms[scheme].wall_ms
    return statistics.median(times) if times else None
