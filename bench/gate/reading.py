"""What the gate takes from a run: the only place where it looks into a record or a manifest."""

from dataclasses import dataclass

import numpy as np

from bench.analysis.speedup import REFERENCE, compare
from bench.analysis.statistics import Interval
from bench.results.store import Record, Run

COUNTS = {"flops": "FLOPs", "operators": "operators", "kernels": "kernels"}
"""What is counted of a step, and the word for it."""
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Reading:
    """One arm of one case. An arm with a trouble has no result."""

    trouble: str | None
    speedup: Interval | None = None
    """Of one-stage over this arm; None of one-stage itself."""
    drift: float | None = None
    """By how much that ratio changed from the first third of the rounds to the last; None for too few rounds."""
    work: tuple[tuple[str, int | None], ...] = ()
    """Of one step, by the keys of COUNTS; None where it was not counted."""


def read(measured: Run, case: str, scheme: str) -> Reading:
    """Return what a run says of an arm."""
    record = next((record for record in measured.cases if record["name"] == case), None)
    for needed in (scheme, REFERENCE):
        if trouble := _trouble(record, needed):
            return Reading(trouble if needed == scheme else f"{needed}: {trouble}")
    assert record is not None
    arm = record["arms"][scheme]
    work = tuple((key, arm.get(key)) for key in COUNTS)
    if scheme == REFERENCE:
        return Reading(None, work=work)
    found = compare(record, scheme)
    if found.speedup is None:
        return Reading(found.reason)
    return Reading(None, found.speedup, _drift(arm["wall_ms"], record["arms"][REFERENCE]["wall_ms"]), work)


def arms_of(measured: Run) -> dict[str, tuple[str, ...]]:
    """Return what a run was asked for: the schemes of every case, in the suite's order."""
    return dict.fromkeys(measured.manifest["cases"], tuple(measured.manifest["suite"]["schemes"]))


def machine_of(measured: Run) -> Record:
    """Return the cpu, gpu, threads, version of torch and commit (with `-dirty`) of a run."""
    facts = measured.manifest["machine"]
    commit = f"{facts['commit']}-dirty" if facts["commit"] and facts["dirty"] else facts["commit"]
    here = {key: facts[key] for key in ("cpu", "gpu", "threads")}
    return here | {"torch": facts["libraries"]["torch"], "commit": commit}


def started(measured: Run) -> str:
    """Return when a run began, in ISO 8601."""
    return str(measured.manifest["started"])


def _trouble(record: Record | None, scheme: str) -> str | None:
    """Return why an arm has no result, None if it has one."""
    if record is None:
        return "not run"
    arm = record["arms"].get(scheme)
    if arm is None:
        return record["reason"] if record["status"] == "failed" and not record["arms"] else "not run"
    return None if arm["status"] == "ok" else f"{arm['status']}: {arm['reason']}"


def _drift(over: list[float], under: list[float]) -> float | None:
    ratios = np.asarray(over) / np.asarray(under)
    third = len(ratios) // LEAST_ROUNDS
    return float(np.median(ratios[-third:]) / np.median(ratios[:third]) - 1) if third else None
