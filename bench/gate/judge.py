"""The verdict on every arm of a run, and on the run: pure functions of its results and of a baseline."""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

from bench import results
from bench.analysis.statistics import Interval
from bench.gate import reading
from bench.gate.baseline import TOLERANCE, Baseline
from bench.gate.reading import COUNTS, Reading, origin_of
from bench.report.words import interval_text
from bench.results.store import Run
from bench.suite.model import CONTROL

CONTROL_SHARE = 1 / 2
"""Of the tolerance: how far the control may be from 1. A change that is a finding is then at least twice what the
machine makes of no change at all. Simulated as in the tests, a third leaves 20 of 100 real changes untold, half 4."""

Verdict = Literal["ok", "below", "above", "inconclusive", "more work", "failed", "missing", "new", "not compared"]
FAILING: tuple[Verdict, ...] = ("failed", "missing", "more work", "below", "above")
TO_CONFIRM: tuple[Verdict, ...] = ("below", "above", "inconclusive")
WORST_FIRST: tuple[Verdict, ...] = (*FAILING, "inconclusive", "ok", "not compared", "new")
NO_COMPARISON: tuple[Verdict, ...] = ("missing", "new", "not compared")
HELD = ("flops", "operators")
"""The counts that are compared exactly. Kernels are not: cuDNN and cuBLAS choose them anew in every process."""


class Status(IntEnum):
    """How the gate ends; 2 is a user's mistake, in every command. STATUSES explains them."""

    PASS = 0
    FINDING = 1
    NOTHING_COMPARED = 3
    INCONCLUSIVE = 4


STATUSES = (
    "Exit status: 0 the gate passes; 1 a finding: a speedup below or above the baseline, more work, an arm that failed "
    "or is missing; 2 bad input; 3 nothing was compared; 4 inconclusive: an interval is too wide, or the control, "
    "one_stage against itself, shows that this machine cannot tell now. 3 and 4 are no pass."
)


@dataclass(frozen=True)
class Row:
    """One arm of one case against the baseline, the control against 1; one-stage has no speedup over itself."""

    case: str
    scheme: str
    verdict: Verdict
    tolerance: float
    speedup: Interval | None = None
    expected: float | None = None
    drift: float | None = None
    work: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def judge(measured: Run, baseline: Baseline | None) -> list[Row]:
    """Hold every arm of the run, and every one that the baseline has and the run lacks, to the baseline.

    Where a control is off, no speedup of the run is held to anything. On another processor or GPU than the baseline's a
    speedup that differs is inconclusive, as machines differ in their ratios too. Raises InputError for a run of
    several machines.
    """
    results.check_one_machine(measured)
    known = baseline.cases if baseline else {}
    asked = reading.arms_of(measured)
    rows = []
    for case in dict.fromkeys([*asked, *known]):
        held = known[case].work if case in known else ()
        for scheme in dict.fromkeys([*asked.get(case, ()), *held]):
            row = Row(case, scheme, "new", baseline.tolerance_of(case) if baseline else TOLERANCE)
            if scheme in asked.get(case, ()):
                rows.append(_judge_arm(row, measured, baseline))
            else:
                rows.append(replace(row, verdict="missing", reasons=("the baseline has it, the suite does not",)))
    if any(row.scheme == CONTROL and control_is_off(row) for row in rows):
        rows = [replace(row, verdict="inconclusive") if _hangs_on_the_control(row) else row for row in rows]
    return [_on_another_machine(row, measured, baseline) for row in rows] if baseline else rows


def _on_another_machine(row: Row, measured: Run, baseline: Baseline) -> Row:
    here, there = origin_of(measured), baseline.machine
    if row.verdict not in ("below", "above") or (here.cpu, here.gpu) == (there.cpu, there.gpu):
        return row
    reason = f"the baseline is of {there.gpu or there.cpu}, this is {here.gpu or here.cpu}: measure one of this machine"
    return replace(row, verdict="inconclusive", reasons=(*row.reasons, reason))


def confirm(first: list[Row], second: list[Row]) -> list[Row]:
    """Put what a second run says in the place of what has to show twice: 5 % of false alarms a row would be too many.

    A speedup is below, or above, if both runs say so; if the second alone does, it is inconclusive.
    """
    return [
        _twice(row, again) if row.scheme == CONTROL or row.verdict in TO_CONFIRM else row
        for row, again in zip(first, second, strict=True)
    ]


def status_of(rows: list[Row]) -> Status:
    """Return what the rows come to; what is counted fails whatever the machine can tell."""
    if all(row.verdict in NO_COMPARISON for row in rows if row.scheme != CONTROL):
        return Status.NOTHING_COMPARED
    if any(row.verdict in FAILING for row in rows):
        return Status.FINDING
    return Status.INCONCLUSIVE if any(row.verdict == "inconclusive" for row in rows) else Status.PASS


def control_is_off(row: Row) -> bool:
    """Whether a control's interval lies further from 1 than half of the tolerance, wholly."""
    margin = CONTROL_SHARE * row.tolerance
    return row.speedup is not None and (row.speedup.low > 1 + margin or row.speedup.high < 1 - margin)


def _hangs_on_the_control(row: Row) -> bool:
    return row.scheme != CONTROL and row.expected is not None and row.verdict in ("ok", "below", "above")


def _twice(row: Row, again: Row) -> Row:
    once = again.verdict in ("below", "above") and again.verdict != row.verdict
    reasons = again.reasons or (("not so when measured again",) if row.reasons else ())
    return replace(again, verdict="inconclusive" if once else again.verdict, reasons=(*row.reasons, *reasons))


def _judge_arm(row: Row, measured: Run, baseline: Baseline | None) -> Row:
    found = reading.read(measured, row.case, row.scheme)
    if found.trouble:
        return replace(row, verdict="failed", reasons=(found.trouble,))
    row = replace(row, speedup=found.speedup, drift=found.drift)
    if row.scheme == CONTROL:
        return _judge_control(row, found.speedup)
    expected = baseline.cases.get(row.case) if baseline else None
    if baseline is None or expected is None or row.scheme not in expected.work:
        return row
    verdicts: set[Verdict] = {"not compared"}
    reasons: list[str] = []
    changes = ["not compared"]
    was = expected.speedups.get(row.scheme)
    if found.speedup and was:
        verdict, reason = _hold(found.speedup, was.estimate, row.tolerance)
        verdicts.add(verdict)
        reasons += [reason] if reason else []
    if baseline.machine.torch_version == origin_of(measured).torch_version:
        changes, worked, explained = _compare_work(found, expected.work[row.scheme])
        verdicts.add(worked)
        reasons += explained
    verdict = next(verdict for verdict in WORST_FIRST if verdict in verdicts)
    estimate = was.estimate if was else None
    return replace(row, verdict=verdict, expected=estimate, work=tuple(changes), reasons=tuple(reasons))


def _judge_control(row: Row, found: Interval | None) -> Row:
    assert found is not None
    row = replace(row, expected=1.0)
    if control_is_off(row):
        reason = f"one_stage over itself is {_precise(found)}: this machine cannot tell now"
        return replace(row, verdict="inconclusive", reasons=(reason,))
    if found.half_width > row.tolerance:
        return replace(row, verdict="inconclusive", reasons=(_too_wide(found, row.tolerance),))
    return replace(row, verdict="ok")


def _hold(found: Interval, was: float, tolerance: float) -> tuple[Verdict, str | None]:
    """Hold a speedup to the baseline's; returns the reason of what is not plainly ok."""
    low, high = was * (1 - tolerance), was * (1 + tolerance)
    if found.high < low:
        return "below", f"{interval_text(found)} ends below {low:.3f}, {tolerance:.0%} under the baseline"
    if found.low > high:
        return "above", f"{interval_text(found)} begins above {high:.3f}, {tolerance:.0%} over the baseline"
    if found.half_width > tolerance:
        return "inconclusive", _too_wide(found, tolerance)
    if low <= found.estimate <= high:
        return "ok", None
    edge = low if found.estimate < low else high
    return "inconclusive", f"{_precise(found)} lies on both sides of {edge:.3f}, {tolerance:.0%} from the baseline"


def _too_wide(found: Interval, tolerance: float) -> str:
    return f"{interval_text(found)} is wider than the tolerance of {tolerance:.0%} either way"


def _precise(interval: Interval) -> str:
    return f"{interval.estimate:.3f} ({interval.low:.3f}-{interval.high:.3f})"


def _compare_work(found: Reading, expected: dict[str, int | None]) -> tuple[list[str], Verdict, list[str]]:
    """Return what changed, the verdict and the reasons; a count that the baseline lacks is held to nothing."""
    if all(expected.get(key) is None for key in HELD):
        return ["not compared"], "not compared", []
    changes: list[str] = []
    reasons: list[str] = []
    verdict: Verdict = "ok"
    for key, now in found.work:
        word, before = COUNTS[key], expected.get(key)
        if before is None or now == before:
            continue
        if now is None:
            reasons.append(f"{word} were not counted, the baseline has {before:,}")
            verdict = "failed" if key in HELD else verdict  # a gate that cannot look does not pass
            continue
        if now > before and key in HELD and verdict == "ok":
            verdict = "more work"
        changes.append(f"{word} {now - before:+,}")
        reasons.append(f"{word} a step {before:,} -> {now:,}" + ("" if key in HELD else ", which is no finding"))
    return changes or ["same"], verdict, reasons
