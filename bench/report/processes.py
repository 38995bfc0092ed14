"""The table of cases of several processes: scaling efficiency, and what `osgan.training.scaling` predicts."""

import statistics

from bench.analysis.statistics import unpaired_ratio_interval
from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Table
from bench.report.tables import MISSING, text_cell
from bench.report.words import share_text
from bench.results.rows import Arm, CaseRow

HEADS = [
    "case",
    "scheme",
    "ms a step",
    "scaling efficiency",
    "ms without reductions",
    "ms predicted",
    "measured over predicted",
    "MB reduced",
]
NOTE = (
    "Every process takes a step on a batch of this size. Scaling efficiency is the step time of the same case in one "
    "process over that in so many, from two cases measured one after the other. A step without reductions was timed in "
    "all processes at once; predicted is what the model of osgan predict --gpus makes of it and of the measured "
    "all-reduce."
)
SHARED_CPU = " On a CPU the processes share its cores, so 1 over their number is the most that can be had."


def table(columns: Columns, column: Column) -> Table | None:
    """Return the table; None where no case has several processes."""
    rows = [
        Row([text_cell(columns.name(row)), text_cell(scheme), *_cells(column, row, scheme, arm)])
        for row in column.run.timed
        if row.case.world_size > 1
        for scheme, arm in row.arms.items()
        if arm.wall_ms
    ]
    if not rows:
        return None
    on_cpu = not column.run.manifest.machine.gpu
    title = f"Several processes{column.where}"
    return Table(f"processes{column.suffix}", title, HEADS, rows, NOTE + (SHARED_CPU if on_cpu else ""))


def _cells(column: Column, row: CaseRow, scheme: str, arm: Arm) -> list[Cell]:
    measured, predicted, reduced = statistics.median(arm.wall_ms), arm.predicted_ms, arm.reduced_bytes
    return [
        _milliseconds(measured),
        _efficiency(column, row, scheme),
        _milliseconds(arm.local_ms),
        _milliseconds(predicted),
        Cell(f"{measured / predicted:.3f}", measured / predicted) if predicted else MISSING,
        Cell(f"{reduced / 1e6:.2f}", reduced / 1e6) if reduced else MISSING,
    ]


def _milliseconds(value: float | None) -> Cell:
    return MISSING if value is None else Cell(f"{value:.2f}", value)


def _efficiency(column: Column, row: CaseRow, scheme: str) -> Cell:
    """Compare with the case that differs in the number of processes alone, if the run has it."""
    single = row.case.model_copy(update={"world_size": 1})
    alone = next((other.arms.get(scheme) for other in column.run.timed if other.case == single), None)
    together = row.arms[scheme].wall_ms
    if alone is None or min(len(alone.wall_ms), len(together)) < 2:
        return MISSING
    found = unpaired_ratio_interval(alone.wall_ms, together)
    return Cell(f"{share_text(found.estimate)} ({share_text(found.low)} to {share_text(found.high)})", found.estimate)
