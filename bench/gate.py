"""The gate: a run of suites/regress.yaml against the baseline of this kind of device.

Speedups are ratios and may be compared across machines, loosely: a run fails when an interval lies wholly below the
baseline by more than the tolerance. Work a step is counted, and compared exactly, within one version of PyTorch.
A baseline is one JSON file, results/baseline/<kind>.json; its past is in git. Format versions:
1  2026-11: first.
"""

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import machine, results
from bench import suite as suites
from bench.analysis.speedup import REFERENCE, compare
from bench.analysis.statistics import Interval
from bench.execution import runner
from bench.report.words import interval_text, number_text
from bench.results import Arm, CaseRow, Machine, Run
from bench.suite.cases import Frozen
from osgan.errors import InputError

FORMAT_VERSION = 1
TOLERANCE = 0.06
COUNTS = {"flops": "FLOPs", "operators": "operators", "kernels": "kernels"}

Verdict = Literal["ok", "below", "more work", "failed", "new", "not compared"]
FAILING: tuple[Verdict, ...] = ("failed", "below", "more work")
WORST_FIRST: tuple[Verdict, ...] = (*FAILING, "ok", "not compared")


class Expected(Frozen):
    """What a case is held to."""

    speedups: dict[str, Interval]
    """Of one-stage over every other scheme."""
    work: dict[str, dict[str, int | None]]
    """Of one step of every arm, by the keys of COUNTS; null where it was not counted."""


class Origin(Frozen):
    """Where a baseline was measured."""

    cpu: str | None
    gpu: str | None
    threads: int
    torch: str
    commit: str | None


class Baseline(Frozen):
    """A baseline file."""

    format: int
    reason: Annotated[str, Field(min_length=1)]
    date: str
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    machine: Origin
    cases: dict[str, Expected]


@dataclass(frozen=True)
class Row:
    """One arm of one case against the baseline; one-stage has no speedup over itself."""

    case: str
    scheme: str
    verdict: Verdict
    speedup: Interval | None = None
    expected: float | None = None
    work: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def run(
    console: Console, device: torch.device, results_folder: Path, baselines: Path, *, update: bool, reason: str | None
) -> bool:
    """Measure the suite, print how it compares, and return whether the gate passes; `update` accepts what it finds.

    Raises InputError, before anything is measured, without a baseline or, for an update, without a reason.
    """
    path = baselines / f"{kind(machine.describe(device))}.json"
    reason = (reason or "").strip()
    if update and not reason:
        raise InputError('a new baseline needs a reason for those who come later: --update --reason "..."')
    if reason and not update:
        raise InputError("--reason is the reason of a new baseline; give it with --update")
    baseline = None
    with contextlib.suppress(InputError) if update else contextlib.nullcontext():  # an update replaces what is broken
        baseline = load(path)
    measured = measure(device, results_folder)
    rows = judge(measured, baseline)
    if not update and any(row.verdict == "below" for row in rows):
        _say(console, "below the baseline: measuring once more, for a loss of speed has to show twice")
        rows = confirm(rows, judge(measure(device, results_folder), baseline))
    print_rows(console, rows, measured, baseline)
    if update:
        new = baseline_of(measured, reason, baseline.tolerance if baseline else TOLERANCE)
        path.parent.mkdir(parents=True, exist_ok=True)
        results.write_atomically(path, json.dumps(new.model_dump(), indent=1) + "\n")
        _say(console, f"wrote {path}")
        return True
    failing = sum(row.verdict in FAILING for row in rows)
    remedy = f'{failing} of {len(rows)} rows. If that is meant: python -m bench regress --update --reason "..."'
    _say(console, f"the gate fails: {remedy}" if failing else f"the gate passes: {len(rows)} rows")
    return not failing


def measure(device: torch.device, results_folder: Path) -> Run:
    """Run the gate's suite and read its results back."""
    asked = suites.load("regress")
    path = runner.start(asked, device, None, results_folder)
    return runner.finish(path, asked, device, None)


def kind(described: Machine) -> str:
    """Return what a baseline file is named for: `cpu`, or the model of the GPU, whose kernels no other model shares."""
    return results.slug(described.gpu).lower() if described.gpu else "cpu"


def load(path: Path) -> Baseline:
    """Read a baseline; raises InputError with the remedy if it is missing, broken or of another format."""
    remedy = 'write one with: python -m bench regress --update --reason "..."'
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no baseline {path}; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from None
    version = raw.get("format") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"{path} has format {version!r}, this version of bench reads {FORMAT_VERSION}; {remedy}")
    try:
        return Baseline.model_validate(raw)
    except ValidationError as error:
        explained = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InputError(f"{path} is not a whole baseline: {explained}; {remedy}") from None


def baseline_of(measured: Run, reason: str, tolerance: float = TOLERANCE) -> Baseline:
    """Return a run as a baseline; raises InputError for an arm without a result or with one too vague to be held to."""
    results.check_one_machine(measured)
    records = {row.name: row for row in measured.cases}
    cases: dict[str, Expected] = {}
    for name in measured.manifest.cases:
        speedups: dict[str, Interval] = {}
        work: dict[str, dict[str, int | None]] = {}
        for scheme in measured.manifest.suite.schemes:
            where = f"{measured.path} cannot be a baseline: {name}, {scheme}"
            if trouble := _trouble(records.get(name), scheme):
                raise InputError(f"{where}: {trouble}")
            work[scheme] = {key: getattr(records[name].arms[scheme], key) for key in COUNTS}
            found = compare(records[name], scheme).speedup if scheme != REFERENCE else None
            if found and found.half_width > tolerance:
                vague = f"{interval_text(found)} is vaguer than the tolerance of {tolerance:.0%}"
                raise InputError(f"{where}: {vague}; measure on a quiet machine")
            speedups |= {scheme: found} if found else {}
        cases[name] = Expected(speedups=speedups, work=work)
    date = measured.manifest.started[:10]
    origin = _origin(measured)
    return Baseline(format=FORMAT_VERSION, reason=reason, date=date, tolerance=tolerance, machine=origin, cases=cases)


def judge(measured: Run, baseline: Baseline | None) -> list[Row]:
    """Hold every arm of the run, and every one that the baseline has and the run lacks, to the baseline."""
    results.check_one_machine(measured)
    known = baseline.cases if baseline else {}
    records = {row.name: row for row in measured.cases}
    asked = dict.fromkeys(measured.manifest.cases, measured.manifest.suite.schemes)
    rows = []
    for name in dict.fromkeys([*asked, *known]):
        for scheme in dict.fromkeys([*asked.get(name, ()), *(known[name].work if name in known else ())]):
            row = Row(name, scheme, "new")
            rows.append(_judge_arm(row, records.get(name), measured, baseline))
    return rows


def confirm(first: list[Row], second: list[Row]) -> list[Row]:
    """Replace what was below by what a second run says: 2.5 % of false alarms a row would be too many for all rows."""
    rows = []
    for row, again in zip(first, second, strict=True):
        reasons = (*row.reasons, *(again.reasons or ("not so when measured again",)))
        rows.append(replace(again, reasons=reasons) if row.verdict == "below" else row)
    return rows


def _judge_arm(row: Row, record: CaseRow | None, measured: Run, baseline: Baseline | None) -> Row:
    scheme = row.scheme
    for needed in (scheme, REFERENCE):
        if trouble := _trouble(record, needed):
            return replace(row, verdict="failed", reasons=(trouble if needed == scheme else f"{needed}: {trouble}",))
    assert record is not None
    found = compare(record, scheme).speedup if scheme != REFERENCE else None
    expected = baseline.cases.get(row.case) if baseline else None
    if baseline is None or expected is None or scheme not in expected.work:
        return replace(row, speedup=found)
    verdicts: set[Verdict] = {"not compared"}
    changes, reasons = ["not compared"], []
    was = expected.speedups.get(scheme)
    if found and was:
        limit = was.estimate * (1 - baseline.tolerance)
        verdicts.add("below" if found.high < limit else "ok")
        if found.high < limit:
            reasons = [f"{interval_text(found)} ends below {limit:.3f}, {baseline.tolerance:.0%} under the baseline"]
    if _torch(baseline.machine) == _torch(_origin(measured)):
        changes, worked, explained = _compare_work(record.arms[scheme], expected.work[scheme])
        verdicts.add(worked)
        reasons += explained
    verdict = next(verdict for verdict in WORST_FIRST if verdict in verdicts)
    return Row(row.case, scheme, verdict, found, was.estimate if was else None, tuple(changes), tuple(reasons))


def _compare_work(arm: Arm, expected: dict[str, int | None]) -> tuple[list[str], Verdict, list[str]]:
    """Return what changed, the verdict and the reasons; a count that the baseline lacks is held to nothing."""
    if all(expected.get(key) is None for key in COUNTS):
        return ["not compared"], "not compared", []
    changes: list[str] = []
    reasons: list[str] = []
    verdict: Verdict = "ok"
    for key, word in COUNTS.items():
        now, before = getattr(arm, key), expected.get(key)
        if before is None or now == before:
            continue
        if now is None:  # a gate that cannot look does not pass
            verdict = "failed"
            reasons.append(f"{word} were not counted, the baseline has {before:,}")
            continue
        if now > before and verdict == "ok":
            verdict = "more work"
        changes.append(f"{word} {now - before:+,}")
        reasons.append(f"{word} a step {before:,} -> {now:,}")
    return changes or ["same"], verdict, reasons


def _trouble(record: CaseRow | None, scheme: str) -> str | None:
    """Return why an arm has no result, None if it has one."""
    if record is None:
        return "not run"
    arm = record.arms.get(scheme)
    if arm is None:
        return record.reason if record.status == "failed" and not record.arms else "not run"
    return None if arm.status == "ok" else f"{arm.status}: {arm.reason}"


def _origin(measured: Run) -> Origin:
    facts = measured.manifest.machine
    commit = f"{facts.commit}-dirty" if facts.commit and facts.dirty else facts.commit
    torch_version = facts.libraries["torch"]
    return Origin(cpu=facts.cpu, gpu=facts.gpu, threads=facts.threads or 0, torch=torch_version, commit=commit)


def _torch(origin: Origin) -> str:
    return ".".join(origin.torch.split(".")[:2])


def _differences(measured: Run, baseline: Baseline) -> list[str]:
    here, there = _origin(measured), baseline.machine
    lines = [
        f"another {key}: the baseline is of {was!r}, this is {now!r}; ratios are compared all the same"
        for key in ("cpu", "gpu", "threads")
        if (was := getattr(there, key)) != (now := getattr(here, key))
    ]
    if _torch(here) != _torch(there):
        lines.append(f"work not compared: baseline is of torch {there.torch}, this is {here.torch}")
    return lines


def print_rows(console: Console, rows: list[Row], measured: Run, baseline: Baseline | None) -> None:
    """Print a table a case, then the reasons of what is not plainly ok, then what sets the machines apart."""
    for case in dict.fromkeys(row.case for row in rows):
        table = Table(box=box.SIMPLE_HEAD, title=Text(case), title_justify="left")
        for header, width in {"scheme": 23, "speedup": 16, "was": 4, "work": 9, "verdict": 12}.items():
            table.add_column(header, no_wrap=header != "work", overflow="fold", min_width=width)
        for row in (row for row in rows if row.case == case):
            numbers = interval_text(row.speedup) or "-", number_text(row.expected), "\n".join(row.work) or "-"
            table.add_row(row.scheme, *numbers, row.verdict, style="bold" if row.verdict in FAILING else None)
        console.print(table)
    lines = [f"{row.verdict}: {row.case}, {row.scheme}: {reason}" for row in rows for reason in row.reasons]
    lines += measured.remarks
    if baseline:
        origin = baseline.machine
        lines += _differences(measured, baseline)
        lines.append(f"baseline: {baseline.date}, commit {origin.commit}, torch {origin.torch}: {baseline.reason}")
    if lines:
        _say(console, *lines)


def _say(console: Console, *lines: str) -> None:
    console.print(*lines, sep="\n", markup=False, highlight=False, soft_wrap=True)
