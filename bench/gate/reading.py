"""What the gate takes from a run: the only place where it looks into a record or a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.speedup import REFERENCE, compare
from bench.analysis.statistics import Interval
from bench.results import CaseRow, Run
from bench.suite.cases import Frozen

COUNTS = {"flops": "FLOPs", "operators": "operators", "kernels": "kernels"}
"""What is counted of a step, and the word for it."""
LEAST_ROUNDS = 3


class Origin(Frozen):
    """Where a baseline was measured."""

    cpu: str | None
    gpu: str | None
    threads: int
    torch: str
    commit: str | None

    @property
    def torch_version(self) -> str:
        """The major and minor version, within which a step's work is the same."""
        return ".".join(self.torch.split(".")[:2])


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
    row = next((row for row in measured.timed if row.name == case), None)
    for needed in (scheme, REFERENCE):
        if trouble := _trouble(row, needed):
            return Reading(trouble if needed == scheme else f"{needed}: {trouble}")
    assert row is not None
    arm = row.arms[scheme]
    work = tuple((key, getattr(arm, key)) for key in COUNTS)
    if scheme == REFERENCE:
        return Reading(None, work=work)
    found = compare(row, scheme)
    if found.speedup is None:
        return Reading(found.reason)
    return Reading(None, found.speedup, _drift(arm.wall_ms, row.arms[REFERENCE].wall_ms), work)


def arms_of(measured: Run) -> dict[str, tuple[str, ...]]:
    """Return what a run was asked for: the schemes of every case, in the suite's order."""
    return dict.fromkeys(measured.manifest.cases, tuple(measured.manifest.suite.schemes))


def origin_of(measured: Run) -> Origin:
    """Return where a run was measured; the commit of a changed tree ends in `-dirty`."""
    facts = measured.manifest.machine
    commit = f"{facts.commit}-dirty" if facts.commit and facts.dirty else facts.commit
    return Origin(
        cpu=facts.cpu, gpu=facts.gpu, threads=facts.threads or 1, torch=facts.libraries["torch"], commit=commit
    )


def started(measured: Run) -> str:
    """Return when a run began, in ISO 8601."""
    return str(measured.manifest.started)


def _trouble(row: CaseRow | None, scheme: str) -> str | None:
    """Return why an arm has no result, None if it has one."""
    if row is None:
        return "not run"
    arm = row.arms.get(scheme)
    if arm is None:
        return row.reason if row.status == "failed" and not row.arms else "not run"
    return None if arm.status == "ok" else f"{arm.status}: {arm.reason}"


def _drift(over: Sequence[float], under: Sequence[float]) -> float | None:
    ratios = np.asarray(over) / np.asarray(under)
    third = len(ratios) // LEAST_ROUNDS
    return float(np.median(ratios[-third:]) / np.median(ratios[:third]) - 1) if third else None
