"""From trained and judged seeds to statements: how good at the end, how long to be that good, and do the cures help.

Pure functions of results. Lower is better for every metric here. What is judged is the moving average of G where there
is one.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bench.analysis.speedup import REFERENCE
from bench.analysis.statistics import Interval, seed_ratio_interval
from bench.results import Record, Run, check_one_machine
from osgan.names import SCHEME_NAMES

COLLAPSE = 2.0
"""A run has collapsed when its last value is more than this many times its own best."""
ALTERNATING = tuple(name for name in SCHEME_NAMES if name.startswith("two_stage"))
PLAIN = "plain"


@dataclass(frozen=True)
class Trained:
    """One scheme, one seed: the metric as it was judged on the way."""

    seed: int
    images: list[int]
    seconds: list[float]
    values: list[float]
    raw: list[float]
    """Of G itself, not of its moving average."""
    failure: str | None

    @property
    def final(self) -> float | None:
        """The last value of a run that reached its end."""
        return self.values[-1] if self.values and not self.failure else None

    @property
    def collapsed(self) -> bool:
        """Whether the run lost what it had: see COLLAPSE."""
        return bool(self.values) and self.values[-1] > COLLAPSE * min(self.values)

    def seconds_to(self, target: float) -> float | None:
        """Return the training seconds until the metric first met the target, between evaluations on a line."""
        for index, value in enumerate(self.values):
            if value <= target:
                if index == 0:
                    return self.seconds[0]
                break
        for (v0, s0), (v1, s1) in pairwise(zip(self.values, self.seconds, strict=True)):
            if v1 <= target:
                return s0 + (s1 - s0) * (v0 - target) / (v0 - v1)
        return None


@dataclass(frozen=True)
class Reached:
    """One scheme's way to a target."""

    scheme: str
    seconds: list[float | None]
    """By seed; None for a run that never got there, failed ones included."""
    speedup: Interval | None
    """Its time over one-stage's, seed by seed; None unless both got there with every seed."""

    @property
    def num_reached(self) -> int:
        """Seeds that got there."""
        return sum(s is not None for s in self.seconds)

    @property
    def median_s(self) -> float | None:
        """Median over the seeds, if most of them got there."""
        ordered = sorted(s if s is not None else float("inf") for s in self.seconds)
        median = statistics.median(ordered) if ordered else float("inf")
        return median if median < float("inf") else None


@dataclass(frozen=True)
class Target:
    """A value to reach, set by the rule the suite stated beforehand."""

    factor: float | None
    """In units of the baseline's final value; None for a level that stands by itself."""
    value: float
    reached: list[Reached]

    def of(self, scheme: str) -> Reached:
        """Return a scheme's way to the target."""
        return next(reached for reached in self.reached if reached.scheme == scheme)


@dataclass(frozen=True)
class Study:
    """One case under one variant: every scheme, every seed."""

    case: Record
    name: str
    """The case's."""
    variant: str
    metric: str
    arms: dict[str, list[Trained]]
    targets: list[Target]
    baseline: str | None
    """The two-stage scheme with the best median at the end, of the plain variant."""
    gap: Interval | None
    """One-stage's final value over that of the plain baseline, seed by seed; 1 and less closes the gap."""

    def finals(self, scheme: str) -> list[float]:
        """Return the final values of the seeds that have one."""
        return [run.final for run in self.arms.get(scheme, []) if run.final is not None]

    def raw_finals(self, scheme: str) -> list[float]:
        """Return the final values of G itself, of the seeds that have one."""
        return [run.raw[-1] for run in self.arms.get(scheme, []) if run.final is not None]

    def failures(self, scheme: str) -> tuple[int, int]:
        """Return how many seeds failed and how many collapsed."""
        runs = self.arms.get(scheme, [])
        return sum(bool(r.failure) for r in runs), sum(r.collapsed and not r.failure for r in runs)


def studies(run: Run) -> list[Study]:
    """Group the trained seeds of a run of one machine by case and variant, in the run's order."""
    check_one_machine(run)
    quality = run.manifest["suite"].get("quality")
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in run.quality:
        if record["seed"] is not None and record.get("metric"):
            groups.setdefault((record["name"].split(" / ")[0], record["variant"]), []).append(record)
    order = list(quality["variants"]) if quality else []
    keys = sorted(groups, key=lambda key: (run.manifest["cases"].index(key[0]), order.index(key[1])))
    arms = {key: _arms(groups[key]) for key in keys}
    found = []
    for name, variant in keys:
        plain = arms.get((name, PLAIN), arms[name, variant])
        baseline = best_baseline(plain)
        level = statistics.median(_finals(plain[baseline])) if baseline else None
        mine = arms[name, variant]
        records = groups[name, variant]
        targets = [_target(factor, level * factor, mine) for factor in quality["targets"]] if level else []
        targets += [_target(None, value, mine) for value in quality.get("levels", ())]
        gap = _gap(mine.get(REFERENCE, []), plain[baseline]) if baseline else None
        found.append(Study(records[0]["case"], name, variant, records[0]["metric"], mine, targets, baseline, gap))
    return found


def best_baseline(arms: dict[str, list[Trained]]) -> str | None:
    """Return the two-stage scheme with the lowest median of final values; one with failed seeds only if all have."""
    candidates = [scheme for scheme in ALTERNATING if _finals(arms.get(scheme, []))]
    whole = [scheme for scheme in candidates if len(_finals(arms[scheme])) == len(arms[scheme])]
    return min(whole or candidates, key=lambda scheme: statistics.median(_finals(arms[scheme])), default=None)


def _arms(records: Iterable[Record]) -> dict[str, list[Trained]]:
    arms: dict[str, list[Trained]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        metric = record["metric"]
        for scheme, arm in record["arms"].items():
            points = [p for p in arm["points"] if p["average"].get(metric) is not None]
            lost = arm["reason"] or (None if len(points) == len(arm["points"]) else "images that are not finite")
            arms.setdefault(scheme, []).append(
                Trained(
                    record["seed"],
                    [p["images"] for p in points],
                    [p["seconds"] for p in points],
                    [p["average"][metric] for p in points],
                    [p["raw"].get(metric) for p in points],
                    lost if arm["status"] != "ok" or lost else None,
                )
            )
    return arms


def _finals(runs: list[Trained]) -> list[float]:
    return [run.final for run in runs if run.final is not None]


def _target(factor: float | None, value: float, arms: dict[str, list[Trained]]) -> Target:
    seconds = {scheme: [run.seconds_to(value) for run in runs] for scheme, runs in arms.items()}
    mine = seconds.get(REFERENCE, [])
    reached = []
    for scheme, theirs in seconds.items():
        pairs = [(a, b) for a, b in zip(theirs, mine, strict=True) if a is not None and b is not None]
        whole = scheme != REFERENCE and len(pairs) == len(mine) == len(theirs)
        speedup = seed_ratio_interval([a for a, _ in pairs], [b for _, b in pairs]) if whole else None
        reached.append(Reached(scheme, theirs, speedup))
    return Target(factor, value, reached)


def _gap(mine: list[Trained], baseline: list[Trained]) -> Interval | None:
    pairs = [(a.final, b.final) for a, b in zip(mine, baseline, strict=False) if a.seed == b.seed]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < len(pairs):
        return None
    return seed_ratio_interval([a for a, _ in known], [b for _, b in known])
