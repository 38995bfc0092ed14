"""From trained and judged seeds to statements: how good at the end, how soon that good, and do the cures help.

Pure functions of results. Lower is better for every metric here. What is judged is the moving average of G where there
is one.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.pace import Pace, pace_of
from bench.analysis.passage import Curve, Passage, passage, product, ratio_at_equal_seconds, ratio_of_means
from bench.analysis.speedup import PAPER_BASELINE, REFERENCE
from bench.analysis.statistics import Interval, seed_ratio_interval
from bench.analysis.trained import Trained, arms_of, finals, with_twins
from bench.results import QualityRow, Run, check_one_machine
from bench.suite.cases import Case
from bench.suite.plans import Quality
from osgan.names import SCHEME_NAMES

ALTERNATING = tuple(name for name in SCHEME_NAMES if name.startswith("two_stage"))
AT_FIRST = 0.25
"""No ratio is taken where more of an arm's seeds than this share are at the level at their first evaluation."""
PLAIN = "plain"
"""The variant that the others are compared with; in a suite without it, the first one is."""


@dataclass(frozen=True)
class Reached:
    """One scheme's way to a level."""

    scheme: str
    passages: Mapping[int, Passage]
    """By seed, none left out."""
    seconds_an_image: float | None

    @property
    def num_reached(self) -> int:
        """Seeds that got there."""
        return sum(passage.reached for passage in self.passages.values())

    @property
    def images(self) -> float:
        """Mean images to the level; of a seed that did not get there, the images that it was given."""
        return statistics.fmean(passage.images for passage in self.passages.values())

    @property
    def seconds(self) -> float | None:
        """Mean seconds of training to the level, restricted alike."""
        return None if self.seconds_an_image is None else self.images * self.seconds_an_image


@dataclass(frozen=True)
class Sooner:
    """How much sooner one arm is as good as another: ratios of the other's over its own, above 1 in its favour."""

    scheme: str
    other: str
    images: Interval | None
    """Of mean images to the level."""
    time: Interval | None
    """Of mean time to the level: images times the time of a step, up to where the faster arm ends."""
    distance: Interval | None
    """Of the metric at equal seconds, the whole way."""
    censored: tuple[int, int]
    """Seeds of the arm and of the other that did not get there."""
    at_first: tuple[int, int]
    """Seeds of the arm and of the other that were there at their first evaluation already."""
    num_seeds: int
    """Seeds that both were trained with."""


@dataclass(frozen=True)
class Level:
    """A value to reach, set by the rule that the suite stated beforehand."""

    factor: float | None
    """In units of the baseline's final value; None for a level that stands by itself."""
    baseline: str | None
    """The scheme whose final value it is a multiple of."""
    value: float
    reached: Mapping[str, Reached]
    """By scheme."""


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
    pace: Pace
    levels: list[Level]
    baseline: str | None
    """The two-stage scheme with the best median at the end, of the reference variant."""
    horizon: int
    """Images that every training was given."""
    gap: Interval | None
    """One-stage's final value over that of the baseline, seed by seed; 1 and less closes the gap."""
    num_lost: int
    """Seeds of which there is no training of any scheme."""

    def finals(self, scheme: str) -> list[float]:
        """Return the final values of the seeds that have one."""
        return finals(self.arms.get(scheme, []))

    def raw_finals(self, scheme: str) -> list[float]:
        """Return the final values of G itself, of the seeds that have one."""
        found = (run.raw[-1] for run in self.arms.get(scheme, []) if run.final is not None)
        return [value for value in found if value is not None]

    def failures(self, scheme: str) -> tuple[int, int]:
        """Return how many seeds failed and how many collapsed."""
        runs = self.arms.get(scheme, [])
        return sum(bool(r.failure) for r in runs), sum(r.collapsed and not r.failure for r in runs)

    @property
    def strongest(self) -> str | None:
        """The two-stage scheme that is soonest at the first level, of this variant; of such as never are, the best."""
        reached = self.levels[0].reached if self.levels else {}
        ways = {scheme: reached[scheme] for scheme in ALTERNATING if scheme in reached}
        rates = {scheme: rate for scheme, way in ways.items() if (rate := way.seconds_an_image)}
        end = min(rates.values(), default=0.0) * self.horizon

        def rank(scheme: str) -> tuple[float, float]:
            seconds = [min(rates[scheme] * way.images, end) for way in ways[scheme].passages.values()]
            return statistics.fmean(seconds), statistics.median(self.finals(scheme) or [math.inf])

        return min(rates, key=rank, default=None)

    def sooner(self, scheme: str, other: str) -> Sooner:
        """Compare two schemes at the first level."""
        mine, theirs = (self.levels[0].reached[name] for name in (scheme, other))
        seeds = [seed for seed in mine.passages if seed in theirs.passages]
        ways = [[arm.passages[seed] for seed in seeds] for arm in (theirs, mine)]
        images = time = None
        there, early = ([sum(getattr(way, what) for way in arm) for arm in ways] for what in ("reached", "at_first"))
        if any(there) and max(early) <= AT_FIRST * len(seeds):
            images = ratio_of_means(*([way.images for way in arm] for arm in ways))
            time = self._time_ratio(ways, [other, scheme])
        distance = self._at_equal_seconds(other, scheme)
        censored = len(seeds) - there[1], len(seeds) - there[0]
        return Sooner(scheme, other, images, time, distance, censored, (early[1], early[0]), len(seeds))

    def _time_ratio(self, ways: Sequence[Sequence[Passage]], schemes: Sequence[str]) -> Interval | None:
        """Return the ratio of mean times, both cut off where the faster of the two arms ends: it errs towards 1."""
        step = self.pace.ratio(*schemes)
        rates = [rate for scheme in schemes if (rate := self.pace.seconds_an_image(scheme))]
        if step is None or len(rates) < len(schemes):
            return None
        end = min(rates) * self.horizon
        seconds = [[min(rate * way.images, end) for way in arm] for rate, arm in zip(rates, ways, strict=True)]
        found = ratio_of_means(*seconds)
        return product(found, step.over(step.estimate)) if found else None

    def contests(self) -> Iterator[Sooner]:
        """Compare every scheme of one gradient a step with the paper's baseline and with the strongest."""
        if not self.levels:
            return
        others = [scheme for scheme in dict.fromkeys((PAPER_BASELINE, self.strongest)) if scheme in self.arms]
        for scheme in self.arms:
            if scheme.startswith(REFERENCE):
                yield from (self.sooner(scheme, other) for other in others if other)

    def _at_equal_seconds(self, scheme: str, other: str) -> Interval | None:
        runs = {name: {run.seed: run for run in self.arms[name]} for name in (scheme, other)}
        seeds = [seed for seed in runs[scheme] if seed in runs[other]]
        if any(runs[name][seed].final is None for name in runs for seed in seeds):
            return None
        rates = {name: self.pace.seconds_an_image(name) for name in runs}
        if None in rates.values():
            return None
        curves = (
            [Curve([rate * n for n in runs[name][seed].images], runs[name][seed].values) for seed in seeds]
            for name, rate in rates.items()
            if rate
        )
        return ratio_at_equal_seconds(*curves)


def studies(run: Run) -> list[Study]:
    """Group the trained seeds of a run of one machine by case and variant, in the run's order."""
    check_one_machine(run)
    plan = run.manifest.suite.quality
    if plan is None:
        return []
    groups: dict[tuple[str, str], list[QualityRow]] = {}
    for row in run.quality:
        if row.seed is not None:
            groups.setdefault((row.case_name, row.variant), []).append(row)
    judged = {key for key, rows in groups.items() if any(row.metric for row in rows)}
    cases, variants = ({name: n for n, name in enumerate(names)} for names in (run.manifest.cases, plan.variants))
    keys = sorted(judged, key=lambda key: (cases.get(key[0], len(cases)), variants.get(key[1], len(variants))))
    timed, n_critic = {row.name: row for row in run.timed}, run.manifest.suite.optimizer.n_critic
    arms, paces = {}, {}
    for key in keys:
        trained = arms_of(row for row in groups[key] if row.metric)
        as_timed = key[1] in plan.variants and plan.variants[key[1]].steps_as_timed
        steps = timed.get(key[0]) if as_timed else None
        pace = paces[key] = pace_of(steps, trained, groups[key][0].case.batch_size * n_critic)
        arms[key] = with_twins(trained, pace.row.arms) if pace.row else trained
    first_variant = PLAIN if PLAIN in plan.variants else next(iter(plan.variants), PLAIN)
    found = []
    for name, variant in keys:
        rows, mine, pace = groups[name, variant], arms[name, variant], paces[name, variant]
        reference = first_variant if (name, first_variant) in arms else variant
        compared = arms[name, reference]
        first = plan.level.variant or variant if plan.level else variant
        baseline = best_baseline(compared)
        levels = [
            Level(factor, scheme, value, _ways(mine, pace, value, plan.images))
            for factor, scheme, value in _values(plan, arms.get((name, first), {}), compared, baseline)
        ]
        metric = next(row.metric for row in rows if row.metric) or ""
        lost = sum(not row.metric for row in rows)
        gap = _gap(mine.get(REFERENCE, []), compared[baseline]) if baseline else None
        found.append(
            Study(rows[0].case, name, variant, reference, metric, mine, pace, levels, baseline, plan.images, gap, lost)
        )
    return found


def best_baseline(arms: dict[str, list[Trained]]) -> str | None:
    """Return the two-stage scheme with the lowest median of final values; one with failed seeds only if all have."""
    candidates = [scheme for scheme in ALTERNATING if finals(arms.get(scheme, []))]
    whole = [scheme for scheme in candidates if len(finals(arms[scheme])) == len(arms[scheme])]
    return min(whole or candidates, key=lambda scheme: statistics.median(finals(arms[scheme])), default=None)


def interval_of(pairs: Sequence[tuple[float | None, float | None]]) -> Interval | None:
    """Return the ratio of pairs of values, one a seed; None if one is missing, since none may be left out."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < len(pairs):
        return None
    return seed_ratio_interval([a for a, _ in known], [b for _, b in known])


def _values(
    plan: Quality, first: dict[str, list[Trained]], reference: dict[str, list[Trained]], baseline: str | None
) -> Iterator[tuple[float | None, str | None, float]]:
    """Yield the values to reach, with the factor and the scheme that they are of: the suite's level first."""
    if plan.level and (values := finals(first.get(plan.level.baseline, []))):
        yield plan.level.factor, plan.level.baseline, plan.level.factor * statistics.median(values)
    if baseline:
        final = statistics.median(finals(reference[baseline]))
        yield from ((factor, baseline, factor * final) for factor in plan.targets)
    yield from ((None, None, value) for value in plan.levels)


def _ways(arms: dict[str, list[Trained]], pace: Pace, value: float, horizon: int) -> dict[str, Reached]:
    return {
        scheme: Reached(
            scheme,
            {run.seed: passage(run.images, run.values, value, horizon) for run in runs},
            pace.seconds_an_image(scheme),
        )
        for scheme, runs in arms.items()
    }


def _gap(mine: list[Trained], baseline: list[Trained]) -> Interval | None:
    theirs = {run.seed: run.final for run in baseline}
    return interval_of([(run.final, theirs[run.seed]) for run in mine if run.seed in theirs])
