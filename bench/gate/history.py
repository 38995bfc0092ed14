"""The gate's ratios over commits: from the runs that are kept, and from the baselines that git remembers."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import results
from bench.analysis.speedup import REFERENCE
from bench.analysis.statistics import Interval
from bench.analysis.steps import Step, find_steps
from bench.gate import reading
from bench.gate.baseline import Baseline, load, parse
from bench.report.columns import machine_name
from bench.results.store import Run
from osgan.errors import InputError

SUITE = "regress"
Source = Literal["run", "baseline"]
Key = tuple[str, str, str]
"""Machine, case and scheme."""


@dataclass(frozen=True)
class Point:
    """One measurement of a ratio. `when` is a date, or a moment, in ISO 8601."""

    when: str
    commit: str | None
    speedup: Interval
    source: Source


@dataclass(frozen=True)
class Series:
    """One-stage over a scheme in a case on one kind of machine, in the order of time."""

    machine: str
    case: str
    scheme: str
    points: Sequence[Point]
    band: tuple[float, float] | None = None
    """Where the gate allows the ratio to be on this machine now."""

    @property
    def steps(self) -> list[Step]:
        """Where the ratio steps to another level."""
        return find_steps([point.speedup.estimate for point in self.points])


def collect(results_folder: Path, baselines: Path) -> tuple[list[Series], list[str]]:
    """Return all series, machine by machine, and what could not be read. Results of different machines stay apart.

    Raises InputError where there is nothing at all.
    """
    found: dict[Key, list[Point]] = {}
    bands: dict[Key, tuple[float, float]] = {}
    remarks: list[str] = []
    for measured in _runs(results_folder / SUITE, remarks):
        for key, point in _points_of(measured):
            found.setdefault(key, []).append(point)
    for path in sorted(baselines.glob("*.json")):
        for old in past(path):
            for key, point in _points_of_baseline(old):
                points = found.setdefault(key, [])
                if all(point.speedup != other.speedup for other in points):  # else it is a run's that is kept
                    points.append(point)
        try:
            bands |= _bands(load(path))
        except InputError as error:
            remarks.append(str(error))
    if not found:
        raise InputError(
            f"no run of the gate in {results_folder / SUITE} and no baseline in {baselines}; make one with: "
            "python -m bench regress"
        )
    series = [
        Series(*key, sorted(points, key=lambda point: point.when), bands.get(key)) for key, points in found.items()
    ]
    machines = list(dict.fromkeys(one.machine for one in series))
    return sorted(series, key=lambda one: (machines.index(one.machine), one.case)), remarks


def past(path: Path) -> list[Baseline]:
    """Return every version of a baseline file, the oldest first: what git has of it, and the file as it lies there.

    Versions that cannot be read are left out. Without git, or outside of a repository, there is the file alone.
    """
    commits = _git(path.parent, "log", "--reverse", "--format=%H", "--", path.name)
    texts = [_git(path.parent, "show", f"{commit}:./{path.name}") for commit in (commits or "").split()]
    texts.append(path.read_text(encoding="utf-8", errors="replace"))
    found = []
    for text in dict.fromkeys(text for text in texts if text):
        try:
            found.append(parse(text, str(path)))
        except InputError:
            continue
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _runs(folder: Path, remarks: list[str]) -> Iterator[Run]:
    for file in sorted(folder.glob("*/run.json")):
        try:
            run = results.load(file.parent)
        except InputError as error:
            remarks.append(str(error))
        else:
            yield from results.by_machine(run)


def _points_of(measured: Run) -> Iterator[tuple[Key, Point]]:
    origin = reading.origin_of(measured)
    for case, schemes in reading.arms_of(measured).items():
        for scheme in schemes:
            speedup = reading.read(measured, case, scheme).speedup if scheme != REFERENCE else None
            if speedup:
                point = Point(reading.started(measured), origin.commit, speedup, "run")
                yield (machine_name(origin), case, scheme), point


def _points_of_baseline(baseline: Baseline) -> Iterator[tuple[Key, Point]]:
    machine = machine_name(baseline.machine)
    for case, expected in baseline.cases.items():
        for scheme, speedup in expected.speedups.items():
            point = Point(baseline.date, baseline.machine.commit, speedup, "baseline")
            yield (machine, case, scheme), point


def _bands(baseline: Baseline) -> dict[Key, tuple[float, float]]:
    bands = {}
    for key, point in _points_of_baseline(baseline):
        tolerance = baseline.tolerance_of(key[1])
        bands[key] = point.speedup.estimate * (1 - tolerance), point.speedup.estimate * (1 + tolerance)
    return bands
