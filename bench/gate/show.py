"""What the gate says: tables in a terminal, or Markdown for the summary of a pull request."""

from collections.abc import Iterator
from enum import StrEnum

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.gate.baseline import Baseline
from bench.gate.judge import FAILING, Row, Status, control_is_off
from bench.gate.reading import origin_of
from bench.report.markdown import escape, escape_start
from bench.report.words import interval_text, number_text
from bench.results.store import Run
from bench.suite.model import CONTROL


class Output(StrEnum):
    """The forms that the gate's result can have."""

    TABLES = "tables"
    MARKDOWN = "markdown"


UPDATE = 'python -m bench regress --update --reason "..."'
HEADS = ("scheme", "speedup", "was", "work", "verdict")


def headline(rows: list[Row], status: Status) -> str:
    """Return the gate's verdict in a line."""
    if status is Status.PASS:
        return f"the gate passes: {len(rows)} rows"
    if status is Status.FINDING:
        failing = sum(row.verdict in FAILING for row in rows)
        return f"the gate fails: {failing} of {len(rows)} rows. If that is meant: {UPDATE}"
    if status is Status.NOTHING_COMPARED:
        return f"the gate compared nothing, which is no pass: the suite is not the baseline's any more. {UPDATE}"
    if any(row.scheme == CONTROL and control_is_off(row) for row in rows):
        return "the gate cannot tell: one_stage differs from itself on this machine now; measure on a quiet machine"
    vague = sum(row.verdict == "inconclusive" for row in rows)
    return f"the gate cannot tell: {vague} of {len(rows)} rows are inconclusive; measure on a quiet machine"


def print_tables(console: Console, rows: list[Row], measured: Run, baseline: Baseline | None, verdict: str) -> None:
    """Print a table a case, then all that is to be known, the verdict last."""
    for case in dict.fromkeys(row.case for row in rows):
        table = Table(box=box.SIMPLE_HEAD, title=Text(case), title_justify="left")
        for header, width in zip(HEADS, (23, 16, 4, 9, 12), strict=True):
            table.add_column(header, no_wrap=header != "work", overflow="fold", min_width=width)
        for row in (row for row in rows if row.case == case):
            style = "bold" if row.verdict in (*FAILING, "inconclusive") else None
            table.add_row(row.scheme, *_numbers(row), "\n".join(row.work) or "-", row.verdict, style=style)
        console.print(table)
    said = [*lines(rows, measured, baseline), verdict]
    console.print(*said, sep="\n", markup=False, highlight=False, soft_wrap=True)


def markdown(rows: list[Row], measured: Run, baseline: Baseline | None, verdict: str) -> str:
    """Return the verdict, one table and all that is to be known as GitHub-flavoured Markdown."""
    heads = ("case", *HEADS)
    table = [heads, ["---", "---", "--:", "--:", "---", "---"]]
    for row in rows:
        cells = (row.case, row.scheme, *_numbers(row))
        said = f"**{row.verdict}**" if row.verdict in (*FAILING, "inconclusive") else row.verdict
        table.append([*map(escape, cells), "<br>".join(map(escape, row.work)) or "-", said])
    listed = [f"- {escape_start(line)}" for line in lines(rows, measured, baseline)]
    return "\n".join([f"**{escape(verdict)}**", "", *(f"| {' | '.join(cells)} |" for cells in table), "", *listed, ""])


def lines(rows: list[Row], measured: Run, baseline: Baseline | None) -> list[str]:
    """Return the reasons of what is not plainly ok, the controls, and what sets the machines apart."""
    found = [f"{row.verdict}: {row.case}, {row.scheme}: {reason}" for row in rows for reason in row.reasons]
    found += [_control_line(row) for row in rows if row.scheme == CONTROL and row.speedup]
    found += measured.remarks
    if baseline:
        found += [
            f"tolerance of {case}: {expected.tolerance:.1%}, the file's is {baseline.tolerance:.1%}"
            for case, expected in baseline.cases.items()
            if expected.tolerance
        ]
        found += _differences(measured, baseline)
        origin = baseline.machine
        found.append(f"baseline: {baseline.date}, commit {origin.commit}, torch {origin.torch}: {baseline.reason}")
    return found


def _numbers(row: Row) -> tuple[str, str]:
    return interval_text(row.speedup) or "-", number_text(row.expected)


def _control_line(row: Row) -> str:
    assert row.speedup is not None
    ratio = f"{row.speedup.estimate:.3f} ({row.speedup.low:.3f}-{row.speedup.high:.3f})"
    drift = "" if row.drift is None else f", {row.drift:+.1%} from the first third of the rounds to the last"
    return f"control: {row.case}: one_stage over itself {ratio}{drift}"


def _differences(measured: Run, baseline: Baseline) -> Iterator[str]:
    here, there = origin_of(measured), baseline.machine
    for key in ("cpu", "gpu", "threads"):
        if (was := getattr(there, key)) != (now := getattr(here, key)):
            yield f"another {key}: the baseline is of {was!r}, this is {now!r}; ratios that differ are inconclusive"
    if here.torch_version != there.torch_version:
        yield f"work not compared: baseline is of torch {there.torch}, this is {here.torch}"
