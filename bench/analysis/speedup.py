"""From a run to statements: every baseline against one-stage, beside its FLOP ceiling, with a verdict.

Pure functions of results; the wording is the report's.
"""

from dataclasses import dataclass
from typing import Literal

from bench.analysis.statistics import CONFIDENCE, Interval, geometric_mean_interval, ratio_interval
from bench.results import CaseRow, Run, check_one_machine
from bench.suite.cases import Case
from bench.suite.model import CONTROL

Verdict = Literal["faster", "slower", "inconclusive", "failed", "skipped"]
Claim = Literal["holds", "holds not", "undecided"]

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

    def claim(self, claimed: float = CLAIMED) -> Claim:
        """Whether the speedup is at least `claimed`, at 95 % confidence."""
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
    speedup = ratio_interval(other.wall_ms, mine.wall_ms)
    device = ratio_interval(other.device_ms, mine.device_ms) if other.device_ms and mine.device_ms else None
    verdict: Verdict = "faster" if speedup.low > 1 else "slower" if speedup.high < 1 else "inconclusive"
    ceiling = other.flops / mine.flops if other.flops and mine.flops else None
    return Comparison(case, name, baseline, verdict, None, speedup, device, ceiling, mine.ran_as)


def summarise(run: Run) -> list[Summary]:
    """Compare one-stage with every other scheme, in the suite's order; the control is none, and in no mean.

    Raises InputError for a run of many machines.
    """
    check_one_machine(run)
    summaries = []
    for baseline in run.manifest.suite.schemes:
        if baseline in (REFERENCE, CONTROL):
            continue
        comparisons = [compare(row, baseline) for row in run.cases]
        pairs = [
            (row.arms[baseline].wall_ms, row.arms[REFERENCE].wall_ms)
            for row, comparison in zip(run.cases, comparisons, strict=True)
            if comparison.speedup and not comparison.ran_as
        ]
        summaries.append(Summary(baseline, comparisons, geometric_mean_interval(pairs) if pairs else None))
    return summaries
