"""The runs of one report side by side: what each is called, and the cases they have together. Nothing is pooled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

from bench import results
from bench.analysis import speedup
from bench.analysis.speedup import PAPER_BASELINE, REFERENCE, STRONGEST_BASELINE, Comparison, Summary
from bench.analysis.time_to_quality import Study, studies
from bench.report.words import mark
from bench.results import AnyRow, CaseRow, Run
from bench.results.files import plain_files
from bench.suite.cases import MATRIX_AXES as ALL_AXES
from bench.suite.cases import Case
from osgan.errors import InputError
from osgan.names import SCHEME_NAMES

WORDS = {"batch_size": "batch {}", "world_size": "world size {}", "augmentation": "augmented by {}"}
"""How a value is written that says too little by itself."""
USUAL = {"world_size": 1, "augmentation": "none"}
"""What goes without saying where all cases agree on it."""


@dataclass(frozen=True)
class Column:
    """A run, or the part of it that ran on one machine."""

    run: Run
    label: str
    """The machine; with the start of the run where two columns are of the same."""
    where: str
    """` on LABEL` where there are several columns, else nothing: what a title is followed by."""
    suffix: str
    """`-N` where there are several, else nothing: what keeps names apart."""
    folder: str
    """Where the run's own files lie in the report, `run-N/` or nothing."""

    @cached_property
    def summaries(self) -> list[Summary]:
        """One-stage against every baseline of the run."""
        return speedup.summarise(self.run)

    @cached_property
    def studies(self) -> list[Study]:
        """Every case and variant that was trained for quality."""
        return studies(self.run)

    @cached_property
    def files(self) -> set[str]:
        """What of the run's own files lies beside the report."""
        return set(plain_files(self.run.path)[0])

    @property
    def timed(self) -> bool:
        """Whether the run is one of timing."""
        return bool(self.run.timed) or not self.studies

    @property
    def schemes(self) -> list[str]:
        """The run's schemes, in the suite's order."""
        return self.run.manifest.suite.schemes

    def row(self, name: str) -> CaseRow | None:
        """Return a timed case by its name."""
        return next((row for row in self.run.timed if row.name == name), None)

    def comparison(self, name: str, baseline: str) -> Comparison | None:
        """Return what came of a case against a baseline; None for one that this column does not have."""
        found = next((s for s in self.summaries if s.baseline == baseline), None)
        return next((c for c in found.comparisons if c.name == name), None) if found else None

    def summary(self, baseline: str) -> Summary | None:
        """Return the run's summary of a baseline."""
        return next((summary for summary in self.summaries if summary.baseline == baseline), None)


@dataclass(frozen=True)
class Columns:
    """All columns of a report, in the order of their runs' starts."""

    columns: Sequence[Column]
    runs: Sequence[Run]
    """Whole: what has not run at all is of no column."""

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    @property
    def alone(self) -> bool:
        """Whether there is but one."""
        return len(self.columns) == 1

    @cached_property
    def cases(self) -> dict[str, Case]:
        """Every timed case of any column by its name, in the order of the suites."""
        return {row.name: row.case for column in self.columns for row in column.run.timed}

    @cached_property
    def baselines(self) -> list[str]:
        """Every baseline of any column: the paper's, the strongest, then the others in the library's order."""
        present = {summary.baseline for column in self.columns for summary in column.summaries}
        order = dict.fromkeys((PAPER_BASELINE, STRONGEST_BASELINE, *SCHEME_NAMES, *sorted(present)))
        return [baseline for baseline in order if baseline in present]

    @cached_property
    def common(self) -> dict[str, Any]:
        """What all cases agree on."""
        cases = [row.case for column in self.columns for row in column.run.rows]
        values = {axis: {getattr(case, axis) for case in cases} for axis in ALL_AXES}
        return {axis: getattr(cases[0], axis) for axis in ALL_AXES if len(values[axis]) == 1}

    def study_name(self, column: Column, study: Study) -> str:
        """Return the short name of a study's case with its marks, and its variant."""
        marks = next((mark(row) for row in column.run.quality if row.case_name == study.name and row.arms), "")
        return f"{self.short(study.case)}{marks}, {study.variant}{column.where}"

    def short(self, case: Case, *, without: Sequence[str] = ()) -> str:
        """Return a case's name without the axes on which all cases agree, and without those named."""
        left_out = {*self.common, *without}
        kept = [axis for axis in ALL_AXES if axis not in left_out]
        if not kept:
            kept = [axis for axis in ("loss", "architecture", "dataset") if axis not in without][:1]
        return ", ".join(_words(axis, getattr(case, axis)) for axis in kept)

    def name(self, row: AnyRow) -> str:
        """Return the short name of a row's case with its marks."""
        return self.short(row.case) + mark(row)

    def row_name(self, name: str) -> str:
        """Return the short name of a case with the marks it bears in any column."""
        marks = dict.fromkeys(mark(row) for column in self.columns if (row := column.row(name)))
        return self.short(self.cases[name]) + "".join(marks)


def columns_of(runs: Sequence[Run]) -> Columns:
    """Split every run by machine and put the parts in the order of their starts. Raises InputError for a run twice."""
    ordered = sorted(runs, key=lambda run: (run.manifest.started, run.path.name, run.manifest.suite.name))
    if not ordered:
        raise InputError("a report needs a run; name the folder of one")
    for first, second in pairwise(ordered):
        if first.path.resolve() == second.path.resolve():
            raise InputError(f"{first.path} was given twice; name each run once")
    parts = [(number, part) for number, run in enumerate(ordered, 1) for part in results.by_machine(run)]
    several = len(parts) > 1
    machines = [machine_name(part.manifest.machine) for _, part in parts]
    columns: list[Column] = []
    for index, (number, part) in enumerate(parts):
        label = machines[index]
        if machines.count(label) > 1:
            label = f"{label}, {part.manifest.started}"
        if any(label == column.label for column in columns):  # machines of one run that differ in a setting
            label = f"{label}, machine {index + 1}"
        columns.append(
            Column(
                part,
                label,
                f" on {label}" if several else "",
                f"-{index + 1}" if several else "",
                f"run-{number}/" if len(ordered) > 1 else "",
            )
        )
    return Columns(columns, ordered)


def _words(axis: str, value: Any) -> str:
    return "not augmented" if (axis, value) == ("augmentation", "none") else WORDS.get(axis, "{}").format(value)


class HasName(Protocol):
    """What a machine is called by."""

    @property
    def gpu(self) -> str | None:
        """Model of the GPU."""

    @property
    def cpu(self) -> str | None:
        """Model of the processor."""

    @property
    def threads(self) -> int | None:
        """Threads that PyTorch computes with."""


def machine_name(machine: HasName) -> str:
    """Return what a machine is called: its GPU, or its CPU and the threads used."""
    if machine.gpu:
        return machine.gpu
    name, threads = machine.cpu or "an unnamed machine", machine.threads
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}" if threads else name


def shown_baselines(baselines: Sequence[str], *, all_of_them: bool) -> list[str]:
    """Return the baselines of a figure: all, or where that is too much the paper's and the strongest."""
    chosen = [baseline for baseline in baselines if baseline in (PAPER_BASELINE, STRONGEST_BASELINE)]
    return list(baselines) if all_of_them or not chosen else chosen


def shown_schemes(schemes: Sequence[str], *, all_of_them: bool) -> list[str]:
    """Return the schemes of a figure, in their order: all, or the paper's, the strongest and one-stage."""
    chosen = {PAPER_BASELINE, STRONGEST_BASELINE, REFERENCE}
    return [scheme for scheme in schemes if all_of_them or scheme in chosen]
