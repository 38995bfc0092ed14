"""The section on what a step costs with a penalty: cases that differ in the penalties of their loss alone."""

import statistics
from collections.abc import Sequence

from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Section, Table
from bench.report.tables import MISSING, text_cell
from bench.report.words import number_text
from bench.results.rows import CaseRow

EXACT = ("r1", "r2", "gradient_penalty")
BASELINE = "two_stage_frozen"
NOTE = (
    "FLOPs over those of `two_stage_frozen`, what R3GAN's own trainer does, with the exact penalties, and below the "
    "median milliseconds of a step over its: a step's place in the run is not the same, so times are not paired. "
    "`ar1` and `ar2` are approximate: finite differences of D's logits."
)


def section(columns: Columns) -> Section:
    """Return the section; it is empty where no case has both an exact penalty and one without, or approximate."""
    tables = [table for column in columns for table in _tables(column)]
    return Section("penalties", "What a step costs with a penalty", tables)


def _tables(column: Column) -> list[Table]:
    groups: dict[str, list[CaseRow]] = {}
    for row in column.run.timed:
        if row.case.is_gan:
            plain = row.case.model_copy(update={"loss": row.case.loss.partition("+")[0]})
            groups.setdefault(plain.name, []).append(row)
    tables: list[Table] = []
    for name, rows in groups.items():
        reference = next((row for row in rows if _is_exact(row.case.loss)), None)
        if reference is None or len(rows) < 2 or BASELINE not in reference.arms:
            continue
        number = len(tables) + 1
        shown = [
            Row([text_cell(_penalties(row)), *(_cost(row, scheme, reference) for scheme in column.schemes)])
            for row in rows
        ]
        heads = ["penalties", *column.schemes]
        tables.append(Table(f"penalties-{number}{column.suffix}", f"{name}{column.where}", heads, shown, NOTE))
    return tables


def _is_exact(loss: str) -> bool:
    return any(part.partition("=")[0] in EXACT for part in loss.split("+")[1:])


def _penalties(row: CaseRow) -> str:
    return " + ".join(row.case.loss.split("+")[1:]) or "none"


def _cost(row: CaseRow, scheme: str, reference: CaseRow) -> Cell:
    flops, of_reference = (_number(each, "flops", name) for each, name in ((row, scheme), (reference, BASELINE)))
    if not flops or not of_reference:
        return MISSING
    times = _median(row, scheme), _median(reference, BASELINE)
    note = f"{number_text(times[0] / times[1])} of its time" if times[0] and times[1] else ""
    return Cell(f"{flops / of_reference:.2f}", flops / of_reference, note)


def _number(row: CaseRow, key: str, scheme: str) -> float | None:
    arm = row.arms.get(scheme)
    return getattr(arm, key) if arm is not None and arm.status == "ok" else None


def _median(row: CaseRow, scheme: str) -> float | None:
    times: Sequence[float] = row.arms[scheme].wall_ms
    return statistics.median(times) if times else None
