"""How many fresh processes a case is timed in."""

from collections.abc import Iterable

from bench.analysis.processes import enough
from bench.analysis.speedup import REFERENCE, compare
from bench.results import AnyRow, CaseRow
from bench.results.timed import timed_case
from bench.suite.plans import Timing


def processes_needed(timing: Timing, case: str, rows: Iterable[AnyRow]) -> int:
    """Return the number of processes, by what the rows so far say of the case.

    They are the suite's `replicates`, and one more as long as an interval is wider than its target, up to
    `max_replicates`. A case of which no process has an arm with times, one that was skipped say, is not tried again.
    """
    found = [row for row in rows if isinstance(row, CaseRow) and row.name == case]
    if any(row.process == 0 for row in found) and not any(arm.wall_ms for row in found for arm in row.arms.values()):
        return len(found)
    if len(found) < timing.replicates or timing.most_replicates == timing.replicates:
        return timing.replicates
    whole = timed_case(found, timing.replicates)
    intervals = [c.speedup for scheme in whole.arms if scheme != REFERENCE and (c := compare(whole, scheme)).speedup]
    done = enough(
        [interval for interval in intervals if interval],
        target_half_width=timing.target_half_width,
        replicates=timing.replicates,
        max_replicates=timing.most_replicates,
    )
    return len(found) if done else min(len(found) + 1, timing.most_replicates)
