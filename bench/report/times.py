"""The section on where the time goes: the phases of a step, step times, the work in a step, kernels."""

from collections.abc import Iterator, Sequence
from functools import partial

from bench.analysis.doubts import bound
from bench.analysis.speedup import REFERENCE
from bench.report import tables
from bench.report.bar_figures import FEW_CASES, PHASE_COLOURS, draw_phases, pages
from bench.report.columns import Column, Columns, shown_schemes
from bench.report.document import Block, Cell, Figure, Row, Section, Table, Text
from bench.report.figures import drawn
from bench.report.tables import MISSING, number_of, scheme_table, text_cell
from bench.report.words import number_text, share_text
from bench.results.rows import CaseRow

PHASES = (
    "The phases are of marked steps outside the timed rounds, eager whatever the engine, measured once: they have "
    "no interval, and their sum is not the step time of the tables."
)
KERNELS_OF = (
    f"Kernels of a {REFERENCE} step that take the most of it, from profiled steps of their own: milliseconds a step, "
    "calls a step, share of the time in which anything runs."
)


def section(columns: Columns) -> Section:
    """Return the section; empty for runs that timed nothing."""
    blocks: list[Block] = []
    for column in columns:
        if column.run.timed:
            blocks += _phases(columns, column)
            blocks.append(_steps(columns, column))
            blocks += _work(columns, column)
            blocks += [table for table in [_kernels(columns, column)] if table]
    drawn_phases = any(isinstance(block, Figure) for block in blocks)
    return Section("time", "Where the time goes", [Text([PHASES]), *blocks] if drawn_phases else blocks)


def _phases(columns: Columns, column: Column) -> Iterator[Figure]:
    rows = [row for row in column.run.timed if any(arm.phases_ms for arm in row.arms.values())]
    schemes = shown_schemes(column.schemes, all_of_them=len(rows) <= FEW_CASES)
    for part, said, page in pages(rows):
        title = f"Phases of a step{column.where}{said}"
        groups = [
            (columns.name(row), {scheme: phases for scheme in schemes if (phases := _phases_of(row, scheme))})
            for row in page
        ]
        groups = [(name, arms) for name, arms in groups if arms]
        name = f"phases{column.suffix}{part}"
        alt = "Stacked bars of the phases of a step, by case and scheme; the milliseconds stand in its table"
        unit = "% of the longest step of the case shown"
        table = _phases_table(columns, column, page, f"{name}-numbers", f"{title}, in milliseconds")
        yield Figure(name, title, alt, table, drawn(partial(draw_phases, groups, unit)))


def _phases_of(row: CaseRow, scheme: str) -> dict[str, float] | None:
    arm = row.arms.get(scheme)
    return arm.phases_ms if arm else None


def _phases_table(columns: Columns, column: Column, page: Sequence[CaseRow], name: str, title: str) -> Table:
    rows = []
    for row in page:
        for scheme in column.schemes:
            if spent := _phases_of(row, scheme):
                cells = [Cell(number_text(spent.get(phase)), spent.get(phase)) for phase in PHASE_COLOURS]
                rows.append(Row([text_cell(columns.name(row)), text_cell(scheme), *cells]))
    heads = ["case", "scheme", *(phase.replace("_", " ") for phase in PHASE_COLOURS)]
    return Table(name, title, heads, rows, folded=True)


def _steps(columns: Columns, column: Column) -> Table:
    rows = []
    for row in column.run.timed:
        rounds = f"{row.rounds} x {row.steps_per_round}" if row.rounds else "-"
        how = [text_cell(rounds), text_cell(row.ended_by or "-")]
        rows.append(
            Row(
                [
                    text_cell(columns.name(row)),
                    *how,
                    *(tables.milliseconds(row, scheme) for scheme in column.schemes),
                ]
            )
        )
    return Table(
        f"step-times{column.suffix}",
        f"Milliseconds a step{column.where}",
        ["case", "rounds x steps", "ended by", *column.schemes],
        rows,
        "Median over the rounds.",
        folded=True,
    )


def _work(columns: Columns, column: Column) -> Iterator[Table]:
    """Yield what is known of the work that a step is."""
    quantities = [
        ("gflop", "GFLOP a step", number_of("flops", 3, 1e9)),
        ("matmul-share", "FLOP/s achieved over those of a large matrix product", tables.matmul),
        ("idle-share", "Share of a step in which the GPU is idle", tables.idle),
        ("operators", "Operators a step", number_of("operators", 0)),
        ("kernels-a-step", "Kernels a step", number_of("kernels", 0)),
        ("bound-by", "Bound by", _bound),
    ]
    for name, title, value in quantities:
        if table := scheme_table(columns, column, name, title, value):
            yield table


def _bound(row: CaseRow, scheme: str) -> Cell:
    arm = row.arms.get(scheme)
    found = bound(arm) if arm else None
    return text_cell(found) if found else MISSING


def _kernels(columns: Columns, column: Column) -> Table | None:
    rows = []
    for row in column.run.timed:
        arm = row.arms.get(REFERENCE)
        if arm is None or not arm.busy_ms:
            continue
        for kernel in arm.top_kernels or ():
            share = kernel.ms / arm.busy_ms
            numbers = [
                Cell(number_text(kernel.ms, 3), kernel.ms),
                Cell(number_text(kernel.calls, 1), kernel.calls),
                Cell(share_text(share), share),
            ]
            rows.append(Row([text_cell(columns.name(row)), text_cell(kernel.name), *numbers]))
    if not rows:
        return None
    heads = ["case", "kernel", "milliseconds", "calls", "share"]
    return Table(
        f"kernels{column.suffix}", f"Where the GPU's time goes{column.where}", heads, rows, KERNELS_OF, folded=True
    )
