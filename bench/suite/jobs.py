"""What there is to do of a suite: a case to be timed, or a seed of a case to be trained and judged, and where."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.suite.cases import Case, process_name
from bench.suite.model import Suite
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
    """One seed of one variant of a case, or with seed None the search for its settings."""

    suite: Suite
    case: Case
    variant: str
    seed: int | None
    device: str
    root: str | None
    run: Path
    settings: dict[str, dict[str, float]] = field(default_factory=dict)
    """Learning rates that the search has chosen, by scheme."""

    @property
    def name(self) -> str:
        """The job's one name, in results."""
        return job_name(self.case.name, self.variant, self.seed)

    @property
    def plan(self) -> Quality:
        """What the suite asks for."""
        assert self.suite.quality is not None
        return self.suite.quality


def job_name(case: str, variant: str, seed: int | None) -> str:
    """Return the name of a job in results."""
    return f"{case} / {variant} / {'tune' if seed is None else f'seed {seed}'}"


def job_keys(cases: Iterable[str], plan: Quality) -> Iterator[tuple[str, str, int | None]]:
    """Yield the case, variant and seed of every job, in the order they run: a variant's search before its seeds."""
    seeds: list[int | None] = [*([None] if plan.tune else []), *range(plan.seeds)]
    yield from itertools.product(cases, plan.variants, seeds)
