"""The section that sets the paper's published speedups beside what the runs measured in the cases that match.

The published numbers are data of this file, not results; a case matches by data set, DCGAN and loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.analysis.speedup import PAPER_BASELINE, Comparison
from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Section, Table, Text
from bench.report.tables import text_cell
from bench.report.words import comparison_text, mark, number_text
from bench.suite.cases import Case

AUTHORS_CEILING = 1.444


@dataclass(frozen=True)
class Published:
    """Minutes of training read off the curves of Shen et al., CVPR 2021."""

    title: str
    dataset: str
    """What the name of the data set here begins with."""
    loss: str
    two_stage: float
    one_stage: float

    @property
    def ratio(self) -> float:
        """The published speedup."""
        return self.two_stage / self.one_stage

    def matches(self, case: Case) -> bool:
        """Whether a case is of this data set, with DCGAN networks and this loss, whatever its regularizers."""
        family = case.architecture.split("+")[0]
        return (
            case.dataset.startswith(self.dataset)
            and family in ("dcgan32", "dcgan64", "dcgan128")
            and case.loss.split("+")[0] == self.loss
        )


PUBLISHED = (
    Published("CelebA, symmetric", "celeba", "minimax", 458.7, 267.5),
    Published("CelebA, asymmetric", "celeba", "nonsaturating", 413.9, 288.5),
    Published("LSUN Churches, symmetric", "lsun:church", "minimax", 279.9, 186.7),
    Published("LSUN Churches, asymmetric", "lsun:church", "nonsaturating", 286.1, 180.5),
    Published("FFHQ, symmetric", "ffhq", "minimax", 317.7, 205.7),
    Published("FFHQ, asymmetric", "ffhq", "nonsaturating", 317.8, 215.1),
)

DIFFERENCES = (
    "Published: wall-clock minutes of whole trainings, DCGAN at 64x64 and batch 128, read off the authors' curves, one "
    "number each and so without an interval; the GPU, the seeds and the share of evaluation in the minutes are not "
    "stated. Symmetric is the minimax loss, asymmetric the non-saturating one.",
    "Here: seconds a step of arms that differ in the scheme and in nothing else. The authors' arms also differ in "
    "learning rate, and often in norm, latent size or schedule: no pair of theirs is matched.",
    f"The FLOP ceiling of the authors' own code is {AUTHORS_CEILING} (measured for this project); five of the six "
    "published ratios exceed it. What is above a ceiling comes from fewer kernels, fewer synchronisations or unmatched "
    "configurations, not from less arithmetic.",
)


def section(columns: Columns) -> Section:
    """Return the section; empty for runs that timed nothing."""
    if not any(column.run.timed for column in columns):
        return Section("paper", "", [])
    rows = [row for published in PUBLISHED for row in _rows(columns, published)]
    heads = [
        "published",
        "two-stage (minutes)",
        "one-stage (minutes)",
        "published speedup",
        "FLOP ceiling of the authors' code",
        "case here",
        *(f"measured over {PAPER_BASELINE}{column.where}" for column in columns),
    ]
    found = sum(any(_cases(columns, published)) for published in PUBLISHED)
    present = (
        f"{found} of the {len(PUBLISHED)} published pairs have a case here that matches in data set, DCGAN and loss."
        if found
        else "Nothing here has a case that matches one of the published pairs in data set, DCGAN and loss."
    )
    table = Table("paper-numbers", "The paper's published speedups, and the same cases here", heads, rows)
    return Section("paper", "Beside the paper", [Text([present]), table, Text(items=DIFFERENCES)])


def _cases(columns: Columns, published: Published) -> list[str]:
    return [name for name, case in columns.cases.items() if published.matches(case)]


def _rows(columns: Columns, published: Published) -> Iterator[Row]:
    numbers = [Cell(number_text(n, 1), n) for n in (published.two_stage, published.one_stage)]
    claim = Cell(f"{published.ratio:.2f}", published.ratio)
    ceiling = Cell(f"{AUTHORS_CEILING}", AUTHORS_CEILING)
    theirs = [text_cell(published.title), *numbers, claim, ceiling]
    cases = _cases(columns, published)
    for name in cases:
        yield Row([*theirs, text_cell(name), *(_mine(column, name) for column in columns)])
    if not cases:
        yield Row([*theirs, Cell("no such case"), *(Cell("-") for _ in columns)])


def _mine(column: Column, name: str) -> Cell:
    found: Comparison | None = column.comparison(name, PAPER_BASELINE)
    row = column.row(name)
    if found is None or row is None:
        return Cell("-", None, "no such case")
    value = found.speedup.estimate if found.speedup else None
    note = f"ceiling {number_text(found.ceiling)}" if found.ceiling else ""
    return Cell(comparison_text(found) + mark(row), value, note)
