"""The sections on speed: the table of speedups, its heat map, and the bars of measured beside ceiling."""

from collections.abc import Sequence
from functools import partial

from bench.analysis.speedup import Comparison, Summary
from bench.analysis.statistics import Interval
from bench.report.bar_figures import FEW_CASES, Bar, Group, draw_bars, pages
from bench.report.columns import USUAL, Column, Columns, shown_baselines
from bench.report.document import Block, Cell, Figure, Row, Section, Table, Text
from bench.report.figures import drawn
from bench.report.heat_map import heat_map
from bench.report.words import ROLES, comparison_text, interval_text, number_text, options_of, share_text
from bench.results.store import slug

INTRODUCTION = (
    "A speedup is the time of a baseline's step over that of a one_stage step: median of the per-round ratios of arms "
    "that took turns. Of a case in several fresh processes it is the geometric mean over them with a 95 % t interval, "
    "and verdicts are corrected for their number (Holm); of a case in one process the interval is a bootstrap over its "
    "rounds, blind to the scatter between processes. The ceiling is the ratio of their FLOPs, what a "
    "compute-bound machine can gain; the efficiency is measured over ceiling. One-stage is simultaneous descent, "
    "two-stage is alternating: equal seconds a step say nothing of quality."
)
NOTE = "~ inconclusive: the interval holds 1, or would, corrected for the number of cases (Holm)."
UNIT = "time of a baseline's step / time of a one_stage step (no unit)"


def sections(columns: Columns) -> list[Section]:
    """Return the three sections; none for runs that timed nothing."""
    timed = [column for column in columns if column.timed]
    if not timed:
        return []
    baselines = shown_baselines(columns.baselines, all_of_them=False)
    maps = [heat_map(columns, column, baseline) for baseline in baselines for column in timed]
    return [
        Section("speedup", "Speedup", [Text([INTRODUCTION, *_shared(columns)]), *_tables(columns, timed)]),
        Section("heat-map", "Speedup by data set, architecture and loss", [figure for figure in maps if figure]),
        Section("measured-and-ceiling", "Measured beside the ceiling", _bars(columns, timed)),
    ]


def _shared(columns: Columns) -> list[str]:
    shared = [f"{axis} {value}" for axis, value in columns.common.items() if value != USUAL.get(axis)]
    for column in columns:
        shared += [option + column.where for option in options_of(column.run.manifest.suite.optimizer)]
    return [f"All cases: {', '.join(shared)}."] if shared else []


def _tables(columns: Columns, timed: Sequence[Column]) -> list[Table]:
    """One table, a column a baseline; of several machines a table a baseline, a column a machine."""
    if columns.alone:
        (column,) = timed
        summaries = [(s.baseline, column, s.baseline) for b in columns.baselines if (s := column.summary(b))]
        return [_table(columns, "speedup", "Speedup by case and baseline", summaries)]
    return [
        _table(
            columns,
            f"speedup-{slug(baseline)}",
            f"Speedup over {baseline}" + (f", {ROLES[baseline]}" if baseline in ROLES else ""),
            [(column.label, column, baseline) for column in timed],
            folded=baseline not in ROLES,
        )
        for baseline in columns.baselines
    ]


def _table(
    columns: Columns, name: str, title: str, shown: Sequence[tuple[str, Column, str]], *, folded: bool = False
) -> Table:
    rows = [
        Row([Cell(short := columns.row_name(case), short), *(_cell(c.comparison(case, b)) for _, c, b in shown)])
        for case in columns.cases
    ]
    totals = [_total(column.summary(baseline)) for _, column, baseline in shown]
    rows.append(Row([Cell("geometric mean", "geometric mean"), *totals], total=True))
    own = "" if columns.alone else " A mean is of its own machine's cases: compare machines row by row."
    return Table(name, title, ["case", *(head for head, _, _ in shown)], rows, NOTE + own, folded)


def _cell(found: Comparison | None) -> Cell:
    if found is None:
        return Cell("-", None, "not in this run")
    value = found.speedup.estimate if found.speedup else None
    return Cell(comparison_text(found), value, _beside(found.speedup, found.ceiling))


def _total(summary: Summary | None) -> Cell:
    overall = summary.overall if summary else None
    if summary is None or overall is None:
        return Cell("-", None)
    return Cell(interval_text(overall), overall.estimate, _beside(overall, summary.ceiling))


def _beside(measured: Interval | None, ceiling: float | None) -> str:
    """Return the ceiling and the efficiency, as far as they are known."""
    if ceiling is None:
        return ""
    return f"ceiling {number_text(ceiling)}" + (f", {measured.estimate / ceiling:.0%} of it" if measured else "")


def _means(columns: Columns, timed: Sequence[Column]) -> list[Block]:
    """Return the figure of the geometric means, a group a machine; none where each is of one case at most."""
    groups, rows = [], []
    for column in timed:
        summaries = [s for b in columns.baselines if (s := column.summary(b)) and s.overall]
        if max((len(summary.measured) for summary in summaries), default=0) < 2:
            continue
        bars = []
        for summary in summaries:
            mean = summary.overall
            assert mean is not None
            bars.append(Bar(summary.baseline, mean.estimate, mean.low, mean.high, summary.ceiling, interval_text(mean)))
            efficiency = mean.estimate / summary.ceiling if summary.ceiling else None
            rows.append(
                Row(
                    [
                        *(Cell(text, text) for text in (column.label, summary.baseline)),
                        *(Cell(number_text(n, 3), n) for n in (mean.estimate, mean.low, mean.high, summary.ceiling)),
                        Cell(share_text(efficiency) if efficiency else "-", efficiency),
                        Cell(str(len(summary.measured)), len(summary.measured)),
                    ]
                )
            )
        groups.append(Group(f"geometric means, {column.label}", bars))
    if not groups:
        return []
    name, title = "geometric-means", "Geometric means beside their FLOP ceilings"
    heads = ["machine", "baseline", "speedup", "low", "high", "ceiling", "efficiency", "cases"]
    table = Table(f"{name}-numbers", f"{title}: the numbers", heads, rows, folded=True)
    alt = "Bars of the mean speedup over every baseline with intervals, each on the outline of its FLOP ceiling"
    return [Figure(name, title, alt, table, drawn(partial(draw_bars, groups, UNIT, line_at=1.0)))]


def _bars(columns: Columns, timed: Sequence[Column]) -> list[Block]:
    found = _means(columns, timed)
    for column in timed:
        cases = column.run.timed
        baselines = shown_baselines(
            [b for b in columns.baselines if column.summary(b)], all_of_them=len(cases) <= FEW_CASES
        )
        for part, said, page in pages(cases):
            groups = [
                Group(columns.name(row), [_bar(column.comparison(row.name, b)) for b in baselines]) for row in page
            ]
            title = f"Measured beside the FLOP ceiling{column.where}{said}"
            name = f"measured-and-ceiling{column.suffix}{part}"
            table = _numbers(columns, column, f"{name}-numbers", f"{title}: the numbers", [row.name for row in page])
            alt = (
                f"Bars of the measured speedup over {', '.join(baselines)} with intervals, each on the outline of its "
                "FLOP ceiling; the numbers stand in its table"
            )
            found.append(Figure(name, title, alt, table, drawn(partial(draw_bars, groups, UNIT, line_at=1.0))))
    return found


def _bar(found: Comparison | None) -> Bar:
    assert found is not None
    if found.speedup is None:
        return Bar(found.baseline, None, text=found.verdict)
    text = number_text(found.speedup.estimate) + (" ~" if found.verdict == "inconclusive" else "")
    return Bar(found.baseline, found.speedup.estimate, found.speedup.low, found.speedup.high, found.ceiling, text)


def _numbers(columns: Columns, column: Column, name: str, title: str, cases: Sequence[str]) -> Table:
    """Every case and baseline in a row of its own, every number in a cell of its own."""
    heads = ["case", "baseline", "verdict", "speedup", "low", "high", "ceiling", "efficiency", "processes", "rounds"]
    rows = []
    for case in cases:
        for baseline in columns.baselines:
            found = column.comparison(case, baseline)
            if found is None:
                continue
            s = found.speedup
            numbers = [s.estimate, s.low, s.high] if s else [None] * 3
            verdict = f"run as {found.ran_as}" if found.ran_as else found.verdict
            rows.append(
                Row(
                    [
                        *(Cell(text, text) for text in (columns.row_name(case), baseline, verdict)),
                        *(Cell(number_text(number, 3), number) for number in (*numbers, found.ceiling)),
                        Cell(share_text(found.efficiency) if found.efficiency else "-", found.efficiency),
                        Cell(str(s.num_processes) if s else "-", s.num_processes if s else None),
                        Cell(str(s.n) if s else "-", s.n if s else None),
                    ]
                )
            )
    return Table(name, title, heads, rows, folded=True)
