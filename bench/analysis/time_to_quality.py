"""From trained and judged seeds to statements: how good at the end, how long to be that good, and do the cures help.

Pure functions of results. Lower is better for every metric here. What is judged is the moving average of G where there
is one.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bench.analysis.speedup import REFERENCE
from bench.analysis.statistics import Interval, seed_ratio_interval
from bench.results import QualityRow, Run, check_one_machine
from bench.results.rows import QualityArm
from bench.suite.cases import Case
from osgan.names import SCHEME_NAMES

COLLAPSE = 2.0
"""A run has collapsed when its last value is more than this many times its own best."""
ALTERNATING = tuple(name for name in SCHEME_NAMES if name.startswith("two_stage"))
PLAIN = "plain"
"""The variant that the others are compared with; in a suite without it, the first one is."""


@dataclass(frozen=True)
class Trained:
    """One scheme, one seed: the metric as it was judged on the way."""

    seed: int
    images: list[int]
    seconds: list[float]
    values: list[float]
    raw: list[float | None]
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

    def value_at(self, seconds: float) -> float | None:
        """Return the metric after so many training seconds; None before the first and after the last evaluation."""
        if not self.seconds or not self.seconds[0] <= seconds <= self.seconds[-1]:
            return None
        return float(np.interp(seconds, self.seconds, self.values))


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
class Level:
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

    case: Case
    name: str
    """The case's."""
    variant: str
    reference: str
    """The variant that it is compared with, itself if it is that one or if there is no other."""
    metric: str
    arms: dict[str, list[Trained]]
    levels: list[Level]
    baseline: str | None
    """The two-stage scheme with the best median at the end, of the reference variant."""
    gap: Interval | None
    """One-stage's final value over that of the baseline, seed by seed; 1 and less closes the gap."""

    def finals(self, scheme: str) -> list[float]:
        """Return the final values of the seeds that have one."""
        return [run.final for run in self.arms.get(scheme, []) if run.final is not None]

    def raw_finals(self, scheme: str) -> list[float]:
        """Return the final values of G itself, of the seeds that have one."""
        finals = (run.raw[-1] for run in self.arms.get(scheme, []) if run.final is not None)
        return [value for value in finals if value is not None]

    def failures(self, scheme: str) -> tuple[int, int]:
        """Return how many seeds failed and how many collapsed."""
        runs = self.arms.get(scheme, [])
        return sum(bool(r.failure) for r in runs), sum(r.collapsed and not r.failure for r in runs)


def studies(run: Run) -> list[Study]:
    """Group the trained seeds of a run of one machine by case and variant, in the run's order."""
    check_one_machine(run)
    plan = run.manifest.suite.quality
    if plan is None:
        return []
    groups: dict[tuple[str, str], list[QualityRow]] = {}
    for row in run.quality:
        if row.seed is not None and row.metric:
            groups.setdefault((row.case_name, row.variant), []).append(row)
    cases, variants = ({name: n for n, name in enumerate(names)} for names in (run.manifest.cases, plan.variants))
    keys = sorted(groups, key=lambda key: (cases.get(key[0], len(cases)), variants.get(key[1], len(variants))))
    arms = {key: _arms(groups[key]) for key in keys}
    found = []
    first_variant = PLAIN if PLAIN in plan.variants else next(iter(plan.variants), PLAIN)
    for name, variant in keys:
        reference = first_variant if (name, first_variant) in arms else variant
        compared = arms[name, reference]
        baseline = best_baseline(compared)
        final = statistics.median(_finals(compared[baseline])) if baseline else None
        mine = arms[name, variant]
        first = groups[name, variant][0]
        levels = [_level(factor, final * factor, mine) for factor in plan.targets] if final else []
        levels += [_level(None, value, mine) for value in plan.levels]
        gap = _gap(mine.get(REFERENCE, []), compared[baseline]) if baseline else None
        found.append(Study(first.case, name, variant, reference, first.metric or "", mine, levels, baseline, gap))
    return found


def best_baseline(arms: dict[str, list[Trained]]) -> str | None:
    """Return the two-stage scheme with the lowest median of final values; one with failed seeds only if all have."""
    candidates = [scheme for scheme in ALTERNATING if _finals(arms.get(scheme, []))]
    whole = [scheme for scheme in candidates if len(_finals(arms[scheme])) == len(arms[scheme])]
    return min(whole or candidates, key=lambda scheme: statistics.median(_finals(arms[scheme])), default=None)


def _arms(rows: Iterable[QualityRow]) -> dict[str, list[Trained]]:
    arms: dict[str, list[Trained]] = {}
    for row in sorted(rows, key=lambda row: row.seed or 0):
        for scheme, arm in row.arms.items():
            arms.setdefault(scheme, []).append(_trained(row, arm))
    return arms


def _trained(row: QualityRow, arm: QualityArm) -> Trained:
    metric = row.metric or ""
    known = [(point, value) for point in arm.points if (value := point.average.get(metric)) is not None]
    lost = arm.reason or (None if len(known) == len(arm.points) else "images that are not finite")
    return Trained(
        row.seed or 0,
        [point.images for point, _ in known],
        [point.seconds for point, _ in known],
        [value for _, value in known],
        [point.raw.get(metric) for point, _ in known],
        lost or (arm.status if arm.status != "ok" else None),
    )


def _finals(runs: list[Trained]) -> list[float]:
    return [run.final for run in runs if run.final is not None]


def _level(factor: float | None, value: float, arms: dict[str, list[Trained]]) -> Level:
    mine = arms.get(REFERENCE, [])
    reached = []
    for scheme, theirs in arms.items():
        pairs = _paired(theirs, mine, lambda run: run.seconds_to(value))
        whole = scheme != REFERENCE and len(pairs) == len(mine) == len(theirs)
        speedup = seed_ratio_interval([a for a, _ in pairs], [b for _, b in pairs]) if whole else None
        reached.append(Reached(scheme, [run.seconds_to(value) for run in theirs], speedup))
    return Level(factor, value, reached)


def _gap(mine: list[Trained], baseline: list[Trained]) -> Interval | None:
    theirs = {run.seed: run.final for run in baseline}
    return interval_of([(run.final, theirs[run.seed]) for run in mine if run.seed in theirs])


def interval_of(pairs: Sequence[tuple[float | None, float | None]]) -> Interval | None:
    """Return the ratio of pairs of values, one a seed; None if one is missing, since none may be left out."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < len(pairs):
        return None
    return seed_ratio_interval([a for a, _ in known], [b for _, b in known])


def _paired(
    one: list[Trained], other: list[Trained], number: Callable[[Trained], float | None]
) -> list[tuple[float, float]]:
    """Return a number of two schemes' trainings, seed by seed, where both have it."""
    theirs = {run.seed: number(run) for run in other}
    pairs = [(number(run), theirs.get(run.seed)) for run in one]
    return [(a, b) for a, b in pairs if a is not None and b is not None]
