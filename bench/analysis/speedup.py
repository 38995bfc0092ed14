"""From a run to statements: every baseline against one-stage, beside its FLOP ceiling, with a verdict.

Pure functions of results; the wording is the report's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from bench.analysis.inference import holm, p_value
from bench.analysis.processes import Replicate, geometric_mean_over_processes, ratio_over_processes
from bench.analysis.statistics import CONFIDENCE, Interval
from bench.results import CaseRow, Run, check_one_machine
from bench.suite.cases import Case
from bench.suite.model import CONTROL

Verdict = Literal["faster", "slower", "inconclusive", "failed", "skipped"]
Claim = Literal["holds", "holds not", "undecided", "one process"]

REFERENCE = "one_stage"
PAPER_BASELINE = "two_stage"
STRONGEST_BASELINE = "two_stage_reused_frozen"
CLAIMED = 1.5

__all__ = ["CLAIMED", "CONFIDENCE", "Comparison", "Summary", "compare", "summarise"]


@dataclass(frozen=True)
class Comparison:
    """One-stage against one baseline in one case; `speedup` is the baseline's time over one-stage's."""

    case: Case
    name: str
    baseline: str
    verdict: Verdict
    reason: str | None = None
    speedup: Interval | None = None
    device_speedup: Interval | None = None
    ceiling: float | None = None
    ran_as: str | None = None
    """The scheme that stood in for one_stage, which is not exact in this case."""

    @property
    def efficiency(self) -> float | None:
        """Measured over ceiling."""
        return self.speedup.estimate / self.ceiling if self.speedup and self.ceiling else None


@dataclass(frozen=True)
class Summary:
    """All comparisons of a run with one baseline."""

    baseline: str
    comparisons: list[Comparison]
    overall: Interval | None
    """Geometric mean over the cases that were measured; None if there is none."""

    @property
    def measured(self) -> list[Comparison]:
        """The comparisons of one-stage itself that have a number."""
        return [comparison for comparison in self.comparisons if comparison.speedup and not comparison.ran_as]

    @property
    def ceiling(self) -> float | None:
        """Geometric mean of the measured cases' ceilings."""
        ceilings = [c.ceiling for c in self.measured if c.ceiling]
        if not ceilings or len(ceilings) != len(self.measured):
            return None
        product = 1.0
        for ceiling in ceilings:
            product *= ceiling
        return product ** (1 / len(ceilings))

    @property
    def range(self) -> tuple[float, float, float] | None:
        """The lowest, the median and the highest of the measured cases."""
        found = sorted(c.speedup.estimate for c in self.measured if c.speedup)
        return (found[0], median(found), found[-1]) if found else None

    def claim(self, claimed: float = CLAIMED) -> Claim:
        """Whether the speedup is at least `claimed`, at 95 % confidence; one process does not show how far they differ
        from each other.
        """
        if self.overall is not None and self.overall.num_processes < 2:
            return "one process"
        if self.overall is None or self.overall.low < claimed <= self.overall.high:
            return "undecided"
        return "holds" if self.overall.low >= claimed else "holds not"


def compare(row: CaseRow, baseline: str) -> Comparison:
    """Compare one-stage with a baseline in one case's row."""
    mine, other = row.arms.get(REFERENCE), row.arms.get(baseline)
    case, name = row.case, row.name
    if mine is None or other is None:
        absent = REFERENCE if mine is None else baseline
        reason = row.reason if row.status != "ok" and not row.arms else f"{absent} was not run"
        return Comparison(case, name, baseline, "failed" if row.status == "failed" else "skipped", reason)
    for scheme, arm in ((REFERENCE, mine), (baseline, other)):
        if arm.status != "ok":
            return Comparison(case, name, baseline, arm.status, f"{scheme}: {arm.reason}")
    if set(mine.fallbacks or ()) != set(other.fallbacks or ()):
        causes = [f"{s}: {cause}" for s, arm in ((REFERENCE, mine), (baseline, other)) for cause in arm.fallbacks or ()]
        reason = f"not the same engine for both: {'; '.join(causes)}"
        return Comparison(case, name, baseline, "skipped", reason)
    speedup = ratio_over_processes(replicates(row, baseline), first_stage=row.first_stage)
    device = None
    if other.device_ms and mine.device_ms:
        device = ratio_over_processes(replicates(row, baseline, "device_ms"), first_stage=row.first_stage)
    verdict: Verdict = "faster" if speedup.low > 1 else "slower" if speedup.high < 1 else "inconclusive"
    ceiling = other.flops / mine.flops if other.flops and mine.flops else None
    return Comparison(case, name, baseline, verdict, None, speedup, device, ceiling, mine.ran_as)


def replicates(row: CaseRow, baseline: str, clock: str = "wall_ms", *, of: str = REFERENCE) -> list[Replicate]:
    """Return the step times of the baseline and of another arm, a pair for each process that has both."""
    arms = [r.arms for r in row.processes if {baseline, of} <= r.arms.keys()]
    return [(getattr(found[baseline], clock), getattr(found[of], clock)) for found in arms]


def mean_speedup(rows: Sequence[CaseRow], baseline: str) -> Interval | None:
    """Return the geometric mean of the speedups over these cases, which all have one; None of no case."""
    if not rows:
        return None
    stages = {row.first_stage for row in rows}
    first_stage = stages.pop() if len(stages) == 1 else None
    return geometric_mean_over_processes([replicates(row, baseline) for row in rows], first_stage=first_stage)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with verdicts corrected for their number by Holm's procedure, where they have processes.

    Of twenty cases without a difference one would otherwise be called faster or slower by chance.
    """
    values = {index: p for index, c in enumerate(comparisons) if c.speedup and (p := p_value(c.speedup)) is not None}
    adjusted = dict(zip(values, holm(list(values.values())), strict=True))
    level = 1 - CONFIDENCE
    return [
        replace(c, verdict="inconclusive") if index in adjusted and adjusted[index] > level else c
        for index, c in enumerate(comparisons)
    ]


def summarise(run: Run) -> list[Summary]:
    """Compare one-stage with every other scheme, in the suite's order; the control is none, and in no mean.

    Raises InputError for a run of many machines.
    """
    check_one_machine(run)
    summaries = []
    for baseline in run.manifest.suite.schemes:
        if baseline in (REFERENCE, CONTROL):
            continue
        comparisons = corrected([compare(row, baseline) for row in run.timed])
        counted = [row for row, c in zip(run.timed, comparisons, strict=True) if c.speedup and not c.ran_as]
        summaries.append(Summary(baseline, comparisons, mean_speedup(counted, baseline)))
    return summaries
