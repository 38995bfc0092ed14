"""What there is to do of a suite: a case to be timed, or a seed of a case to be trained and judged, and where."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.suite.cases import Case, process_name
from bench.suite.model import Suite
from bench.suite.names import part_name
from bench.suite.plans import Quality, Timing


@dataclass(frozen=True)
class Job:
    """A case to run, and where."""

    suite: Suite
    case: Case
    device: str
    root: str | None
    run: Path
    process: int = 0
    """Which of the fresh processes of the case."""

    @property
    def name(self) -> str:
        """The job's one name, in a run."""
        return process_name(self.case.name, self.process)

    @property
    def timing(self) -> Timing:
        """When the case has been timed enough."""
        assert self.suite.timing is not None
        return self.suite.timing


@dataclass(frozen=True)
class QualityJob:
    """One seed of one variant of a case, or with seed None a part of the search for its settings."""

    suite: Suite
    case: Case
    variant: str
    seed: int | None
    device: str
    root: str | None
    run: Path
    settings: dict[str, dict[str, float]] = field(default_factory=dict)
    """Learning rates and betas that the search has chosen, by scheme."""
    trial: int | None = None
    """Which trial of a search of a space; None: a whole grid, or no search."""
    waits_for: tuple[str, ...] = ()
    """Names of the searches that its settings are chosen from."""

    @property
    def name(self) -> str:
        """The job's one name, in results."""
        return job_name(self.case.name, self.variant, self.seed, self.trial)

    @property
    def plan(self) -> Quality:
        """What the suite asks for."""
        assert self.suite.quality is not None
        return self.suite.quality

    @property
    def schemes(self) -> tuple[str, ...]:
        """The arms that are trained."""
        return self.plan.schemes or self.suite.schemes


JobKey = tuple[str, str, int | None, int | None]
"""Case, variant, seed and trial."""


def job_name(case: str, variant: str, seed: int | None, trial: int | None = None) -> str:
    """Return the name of a job in results."""
    return f"{case} / {variant} / {part_name(seed, trial)}"


def search_keys(cases: Iterable[str], variant: str, plan: Quality) -> Iterator[JobKey]:
    """Yield the jobs of a variant's own searches in these cases; none of a variant that has none."""
    if plan.tune and plan.searches(variant):
        yield from ((case, variant, None, part) for case in cases for part in plan.tune.parts)


def job_keys(cases: Iterable[str], plan: Quality) -> Iterator[JobKey]:
    """Yield every job, in the order they run: searches before the seeds that take what they find."""
    names = list(cases)
    own = [variant for variant, asked in plan.variants.items() if asked.setting_of is None]
    others = [variant for variant in plan.variants if variant not in own]
    for case, variant in [*itertools.product(names, own), *itertools.product(names, others)]:
        yield from search_keys([case], variant, plan)
        yield from ((case, variant, seed, None) for seed in range(plan.seeds))


def searches_of(case: str, variant: str, cases: Iterable[str], plan: Quality) -> Iterator[JobKey]:
    """Yield the searches that the seeds of a variant of a case take their settings from."""
    other = plan.variants[variant].setting_of
    yield from search_keys([case], variant, plan) if other is None else search_keys(cases, other, plan)
