"""What a suite wants to see, stated before it is measured, held against what a run shows: pure functions of results.

A mean over cases is judged by its interval. Where every case has to meet a target, the one that is furthest from it is
shown and judged. What was not measured is no target missed and none met.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.analysis.efficiency import busy_shares, matmul_shares
from bench.analysis.speedup import CLAIMED, REFERENCE, compare, mean_speedup
from bench.analysis.statistics import Interval, ratio_interval
from bench.results import CaseRow, Run, check_one_machine
from bench.suite.plans import Target

Verdict = Literal["met", "not met", "inconclusive", "not measured"]


@dataclass(frozen=True)
class Outcome:
    """One target, and what came of it."""

    target: str
    measured: Interval | None
    verdict: Verdict
    num_cases: int
    """Cases that the target speaks of."""
    num_measured: int
    worst: str | None = None
    """The case that is shown, where every case has to meet the target."""


def outcomes(run: Run) -> list[Outcome]:
    """Hold a run of one machine against the targets of its suite, in the order written; none if it states none."""
    check_one_machine(run)
    return [_outcome(t, [row for row in run.timed if t.speaks_of(row.case)]) for t in run.manifest.suite.targets]


def _outcome(target: Target, rows: list[CaseRow]) -> Outcome:
    if target.what in ("speedup", "ceiling"):
        return _mean(target, rows)
    return _every(target, rows, {"matmul_share": _matmul_share, "idle_share": _idle_share}[target.what])


def _mean(target: Target, rows: list[CaseRow]) -> Outcome:
    """Judge the geometric mean of the speedups; for `ceiling` over that of the FLOP ceilings of the same cases."""
    baseline = target.baseline or ""
    found = [compare(row, baseline) for row in rows]
    counted = [
        row
        for row, comparison in zip(rows, found, strict=True)
        if comparison.speedup and not comparison.ran_as and (comparison.ceiling or target.what == "speedup")
    ]
    least, text = target.at_least or 1.0, f"speedup against {baseline}, geometric mean{_among(target)}"
    measured = mean_speedup(counted, baseline)
    if target.what == "ceiling":
        ceilings = [c.ceiling for c in found if c.speedup and c.ceiling and not c.ran_as]
        text = f"{text}, over its FLOP ceiling"
        if measured:
            measured = measured.over(math.exp(math.fsum(map(math.log, ceilings)) / len(ceilings)))
    verdict = _verdict(measured, at_least=least, at_most=None)
    if measured and measured.num_processes < 2 and target.what == "speedup" and least == CLAIMED:
        verdict = "inconclusive"  # one process does not show how far processes differ
    return Outcome(f"{text}: at least {least:.2f}", measured, verdict, len(rows), len(counted))


def _every(target: Target, rows: list[CaseRow], share: Callable[[CaseRow], Interval | None]) -> Outcome:
    """Judge the case that is furthest from the target."""
    limit = f"at least {target.at_least:.0%}" if target.at_least else f"at most {target.at_most:.0%}"
    text = f"{_SHARES[target.what]}, every case{_among(target)}: {limit}"
    shares = [(row.name, found) for row in rows if (found := share(row))]
    if not shares:
        return Outcome(text, None, "not measured", len(rows), 0)
    furthest = min if target.at_least else max
    name, worst = furthest(shares, key=lambda item: item[1].estimate)
    verdict = _verdict(worst, at_least=target.at_least, at_most=target.at_most)
    return Outcome(text, worst, verdict, len(rows), len(shares), name)


_SHARES = {
    "matmul_share": f"FLOP/s of a {REFERENCE} step over those of a large matrix product",
    "idle_share": f"share of a {REFERENCE} step in which the GPU is idle",
}


def _matmul_share(row: CaseRow) -> Interval | None:
    shares = matmul_shares(row, REFERENCE)
    return ratio_interval(shares, [1.0] * len(shares)) if shares and len(shares) > 1 else None


def _idle_share(row: CaseRow) -> Interval | None:
    shares = busy_shares(row, REFERENCE)
    if not shares or len(shares) < 2:
        return None
    busy = ratio_interval(shares, [1.0] * len(shares))
    return Interval(1 - busy.estimate, 1 - busy.high, 1 - busy.low, busy.n)


def _among(target: Target) -> str:
    given = target.among.given if target.among else {}
    words = (f"{axis} {' or '.join(map(str, accepted))}" for axis, accepted in given.items())
    return f" of {', '.join(words)}" if given else ""


def _verdict(measured: Interval | None, *, at_least: float | None, at_most: float | None) -> Verdict:
    if measured is None:
        return "not measured"
    if at_least is not None:
        return "met" if measured.low >= at_least else "not met" if measured.high < at_least else "inconclusive"
    assert at_most is not None
    return "met" if measured.high <= at_most else "not met" if measured.low > at_most else "inconclusive"
