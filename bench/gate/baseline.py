"""A baseline: one JSON file, results/baseline/<kind>.json, whose past is in git. Its format versions:

1  2026-11: first.
2  2026-11: of a case, `tolerance` (null: the file's).
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from bench import results
from bench.analysis.speedup import REFERENCE
from bench.analysis.statistics import Interval
from bench.gate import reading
from bench.gate.reading import Origin
from bench.report.words import interval_text
from bench.results import Machine, Run
from bench.suite.cases import Frozen
from bench.suite.model import CONTROL
from osgan.errors import InputError

FORMAT_VERSION = 2
READABLE = (1, 2)
TOLERANCE = 0.06
SCATTER = 2.0
"""Half-widths of a case's widest interval that its tolerance leaves room for: the baseline's and the run's own."""
REMEDY = 'write one with: python -m bench regress --update --reason "..."'

Share = Annotated[float, Field(gt=0, lt=1)]


class Expected(Frozen):
    """What a case is held to."""

    speedups: dict[str, Interval]
    """Of one-stage over every other scheme."""
    work: dict[str, dict[str, int | None]]
    """Of one step of every arm, by the keys of `reading.COUNTS`; null where it was not counted."""
    tolerance: Share | None = None
    """Of this case's speedups; null for the file's. An update sets it by the scatter, and keeps one set by hand."""


class Baseline(Frozen):
    """A baseline file."""

    format: int
    reason: Annotated[str, Field(min_length=1)]
    date: str
    tolerance: Share
    machine: Origin
    cases: dict[str, Expected]

    def tolerance_of(self, case: str) -> float:
        """Return the share by which a case's speedups may differ."""
        own = self.cases[case].tolerance if case in self.cases else None
        return own or self.tolerance


def kind(described: Machine) -> str:
    """Return what a baseline file is named for: `cpu`, or the model of the GPU, whose kernels no other model shares."""
    return results.slug(described.gpu).lower() if described.gpu else "cpu"


def load(path: Path) -> Baseline:
    """Read a baseline; raises InputError with the remedy if it is missing, broken or of another format."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no baseline {path}; {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {REMEDY}") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> Baseline:
    """Return the baseline that a file's text is; raises InputError as `load` does."""
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be read ({error}); {REMEDY}") from None
    version = raw.get("format") if isinstance(raw, dict) else None
    if version not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise InputError(f"{where} has format {version!r}, this version of bench reads {known}; {REMEDY}")
    try:
        return Baseline.model_validate(raw)
    except ValidationError as error:
        explained = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InputError(f"{where} is not a whole baseline: {explained}; {REMEDY}") from None


def write(path: Path, baseline: Baseline) -> None:
    """Write a baseline file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    results.write_atomically(path, json.dumps(baseline.model_dump(), indent=1) + "\n")


def baseline_of(measured: Run, reason: str, before: Baseline | None = None) -> Baseline:
    """Return a run as the baseline after `before`, whose tolerance it keeps, and those of cases that were set by hand.

    Raises InputError for an arm without a result or with one too vague to be held to.
    """
    results.check_one_machine(measured)
    floor = before.tolerance if before else TOLERANCE
    cases = {}
    for case, schemes in reading.arms_of(measured).items():
        old = before.cases.get(case) if before else None
        by_hand = _set_by_hand(old)
        held = tuple(scheme for scheme in schemes if scheme != CONTROL)
        speedups, work = _arms(measured, case, held, by_hand or floor)
        scattered = _scatter(speedups)
        own = by_hand or (scattered if scattered > floor else None)
        cases[case] = Expected(speedups=speedups, work=work, tolerance=own)
    date, origin = reading.started(measured)[:10], reading.origin_of(measured)
    return Baseline(format=FORMAT_VERSION, reason=reason, date=date, tolerance=floor, machine=origin, cases=cases)


def _arms(
    measured: Run, case: str, schemes: tuple[str, ...], vaguest: float
) -> tuple[dict[str, Interval], dict[str, dict[str, int | None]]]:
    """Return the speedups and the work of a case's arms."""
    speedups: dict[str, Interval] = {}
    work: dict[str, dict[str, int | None]] = {}
    for scheme in schemes:
        where = f"{measured.path} cannot be a baseline: {case}, {scheme}"
        found = reading.read(measured, case, scheme)
        if found.trouble:
            raise InputError(f"{where}: {found.trouble}")
        work[scheme] = dict(found.work)
        if scheme == REFERENCE:
            continue
        assert found.speedup is not None
        if found.speedup.half_width > vaguest:
            vague = f"{interval_text(found.speedup)} is vaguer than the tolerance of {vaguest:.0%}"
            raise InputError(f"{where}: {vague}; measure on a quiet machine")
        speedups[scheme] = found.speedup
    return speedups, work


def _scatter(speedups: dict[str, Interval]) -> float:
    """Return the tolerance that the intervals of a case ask for."""
    widest = max((interval.half_width for interval in speedups.values()), default=0.0)
    return round(SCATTER * widest, 3)


def _set_by_hand(old: Expected | None) -> float | None:
    """Return the tolerance of a case that is not what its intervals ask for."""
    return old.tolerance if old and old.tolerance != _scatter(old.speedups) else None
