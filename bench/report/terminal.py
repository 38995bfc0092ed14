"""The report's main tables and its verdict in a terminal, machine by machine."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.analysis.targets import outcomes
from bench.analysis.text import one_line
from bench.analysis.time_to_quality import Study
from bench.report.columns import Column, Columns, columns_of
from bench.report.endings import case_doubts, problems
from bench.report.pages import verdict
from bench.report.quality_words import finals_text, seconds_text
from bench.report.words import (
    comparison_text,
    interval_text,
    number_text,
    target_lines,
)
from bench.results.store import Run


def show(console: Console, runs: Sequence[Run]) -> None:
    """Print the tables of all runs, what is wrong with them, and last the verdict."""
    columns = columns_of(runs)
    for column in columns:
        if column.timed:
            console.print(_speedups(columns, column))
        for study in column.studies:
            console.print(_quality(columns, column, study))
    for run in columns.runs:
        for problem in problems(run):
            console.print(one_line(problem), markup=False, soft_wrap=True)
    lines = []
    for column in columns:
        lines += [f"doubt: {case}{column.where}: {doubt}" for case, doubt in case_doubts(columns, column)]
    for column in columns:
        lines += [f"{line}{column.where}" for line in target_lines(outcomes(column.run))]
    for line in [*lines, *verdict(columns)]:
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _speedups(columns: Columns, column: Column) -> Table:
    title = f"time of a baseline's step over one_stage's (95 % interval){column.where}"
    table = Table(box=box.SIMPLE_HEAD, title=escape(one_line(title)))
    table.add_column("case", overflow="fold")
    table.add_column("baseline", no_wrap=True)
    table.add_column("speedup", no_wrap=True)
    table.add_column("ceiling", justify="right", no_wrap=True)
    for index, case in enumerate(column.run.timed):
        for row, summary in enumerate(column.summaries):
            found = summary.comparisons[index]
            name = escape(one_line(columns.name(case))) if row == 0 else ""
            table.add_row(name, summary.baseline, comparison_text(found), number_text(found.ceiling))
        table.add_section()
    for row, summary in enumerate(column.summaries):
        total = interval_text(summary.overall) or "-"
        name = "geometric mean" if row == 0 else ""
        table.add_row(name, summary.baseline, total, number_text(summary.ceiling), style="bold")
    return table


def _quality(columns: Columns, column: Column, study: Study) -> Table:
    title = f"{columns.study_name(column, study)}: {study.metric}, training time to a value"
    table = Table(box=box.SIMPLE_HEAD, title=escape(one_line(title)))
    for head in ("scheme", "final value", "failed, collapsed"):
        table.add_column(head, no_wrap=True)
    for target in study.levels:
        table.add_column(f"to {number_text(target.value, 1)}", no_wrap=True)
    for scheme in study.arms:
        lost = "{}, {}".format(*study.failures(scheme))
        times = [seconds_text(target.reached[scheme]) for target in study.levels]
        table.add_row(scheme, finals_text(study.finals(scheme)), lost, *times)
    return table
