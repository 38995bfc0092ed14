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

    @property
    def tuned(self) -> bool:
        """Whether it takes what a search finds."""
        return self.plan.tune is not None and self.plan.variants[self.variant].tuned


JobKey = tuple[str, str, int | None, int | None]
"""Case, variant, seed and trial."""


def job_name(case: str, variant: str, seed: int | None, trial: int | None = None) -> str:
    """Return the name of a job in results."""
    return f"{case} / {variant} / {part_name(seed, trial)}"


def search_keys(case: str, variant: str, plan: Quality) -> Iterator[JobKey]:
    """Yield the jobs of a variant's search; none of a variant that is not tuned."""
    if plan.tune and plan.variants[variant].tuned:
        yield from ((case, variant, None, part) for part in plan.tune.parts)


def job_keys(cases: Iterable[str], plan: Quality) -> Iterator[JobKey]:
    """Yield every job, in the order they run: a variant's search before its seeds."""
    for case, variant in itertools.product(cases, plan.variants):
        yield from search_keys(case, variant, plan)
        yield from ((case, variant, seed, None) for seed in range(plan.seeds))
