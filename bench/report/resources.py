"""The sections on memory and on energy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bench.report.bar_figures import FEW_CASES, Bar, Group, draw_bars, pages
from bench.report.columns import Column, Columns, shown_schemes
from bench.report.document import Block, Cell, Figure, Section, Text
from bench.report.figures import drawn
from bench.report.tables import number_of, quantity, scheme_table
from bench.results.rows import CaseRow
from bench.results.values import OUT_OF_MEMORY

ALLOCATED, RESIDENT = "peak_allocated_mib", "peak_resident_growth_mib"
JOULES = "joules_per_1000_images"
NOTE = "Measured once an arm: no interval."


def memory(columns: Columns) -> Section:
    """Return the section on memory: peaks, and the largest batch that fits."""
    blocks: list[Block] = []
    for column in columns:
        if not column.run.timed:
            continue
        on_gpu = "Peak memory allocated (MiB), each arm alone", "MiB allocated at the peak, each arm alone"
        on_cpu = (
            "Peak growth of the resident set (MiB), each arm in a process of its own",
            "MiB by which the resident set grows at its peak",
        )
        found = [
            *_figures(columns, column, "memory", ALLOCATED, 1, *on_gpu),
            *_figures(columns, column, "memory-resident", RESIDENT, 1, *on_cpu),
        ]
        reserved = number_of("peak_reserved_mib", 1)
        more = [
            scheme_table(columns, column, "memory-reserved", "Peak memory reserved (MiB), each arm alone", reserved),
            scheme_table(
                columns, column, "largest-batch", "Largest batch that fits", _largest_batch, note=_ends(column)
            ),
        ]
        blocks += [*found, *(table for table in more if table)] or [Text([f"Not measured{column.where}."])]
    return Section("memory", "Memory", blocks)


def _largest_batch(row: CaseRow, scheme: str) -> Cell:
    cell = number_of("largest_batch", 0)(row, scheme)
    return replace(cell, text=f"at least {cell.text}") if cell.value is not None and _limit(row, scheme) else cell


def _limit(row: CaseRow, scheme: str) -> str | None:
    """Return what ended the search for the largest batch, where it was not memory."""
    ended_by = row.arms[scheme].largest_batch_ended_by
    return None if ended_by == OUT_OF_MEMORY else ended_by


def _ends(column: Column) -> str:
    limits = {limit for row in column.run.timed for scheme in row.arms if (limit := _limit(row, scheme))}
    return "; ".join(f"at least: {limit}" for limit in sorted(limits))


def energy(columns: Columns) -> Section:
    """Return the section on energy, which says so where there was no counter to read."""
    blocks: list[Block] = []
    for column in columns:
        if column.run.timed:
            title, unit = "Energy (joules per 1,000 images)", "joules per 1,000 images, of the GPU alone"
            missing = Text([f"Not measured{column.where}: there was no energy counter to read."])
            blocks += _figures(columns, column, "energy", JOULES, 2, title, unit) or [missing]
    return Section("energy", "Energy", blocks)


def _figures(columns: Columns, column: Column, name: str, key: str, digits: int, title: str, unit: str) -> list[Block]:
    """Return bars of a quantity with its table; nothing where no arm has it. It was measured once: no interval."""
    rows = [r for r in column.run.timed if any(quantity(r, s, key) is not None for s in column.schemes)]
    schemes = shown_schemes(column.schemes, all_of_them=len(rows) <= FEW_CASES)
    figures: list[Block] = []
    for part, said, page in pages(rows):
        numbers = number_of(key, digits)
        table = scheme_table(columns, column, f"{name}{part}-numbers", f"{title}{said}", numbers, page, note=NOTE)
        assert table is not None
        groups = [Group(columns.name(row), _bars(row, schemes, key, digits)) for row in page]
        alt = f"Bars by case and scheme: {title}; the numbers stand in its table"
        draw = drawn(partial(draw_bars, groups, unit))
        figures.append(Figure(f"{name}{column.suffix}{part}", f"{title}{column.where}{said}", alt, table, draw))
    return figures


def _bars(row: CaseRow, schemes: Sequence[str], key: str, digits: int) -> list[Bar]:
    values = [(scheme, quantity(row, scheme, key)) for scheme in schemes]
    return [Bar(scheme, value, text=f"{value:,.{digits}f}") for scheme, value in values if value is not None]
