"""Who is as good sooner, over all cases of a variant: geometric means of the cases' ratios."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.analysis.passage import geometric_mean
from bench.analysis.speedup import PAPER_BASELINE
from bench.analysis.statistics import Interval
from bench.analysis.time_to_quality import Sooner, Study

STRONGEST = "the strongest two-stage scheme"
"""Of a case, the one that is soonest there; not the same in all of them."""


@dataclass(frozen=True)
class Overall:
    """One scheme against a role, over cases; ratios above 1 are in its favour."""

    scheme: str
    role: str
    """`two_stage`, or STRONGEST."""
    contests: list[Sooner]
    images: Interval | None
    time: Interval | None
    """Of the cases that have one; None if none has."""
    distance: Interval | None
    """At equal seconds, alike."""

    @property
    def num_cases(self) -> int:
        """Cases of the variant."""
        return len(self.contests)

    @property
    def num_known(self) -> int:
        """Cases that the mean time is of; the others have no ratio."""
        return sum(contest.time is not None for contest in self.contests)

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most seeds of a case."""
        counts = [contest.num_seeds for contest in self.contests]
        return min(counts), max(counts)

    @property
    def num_seeds(self) -> int:
        """Seeds of all cases."""
        return sum(contest.num_seeds for contest in self.contests)

    @property
    def at_first(self) -> tuple[int, int]:
        """Seeds of the scheme and of the others that were there at their first evaluation, in all cases."""
        return sum(c.at_first[0] for c in self.contests), sum(c.at_first[1] for c in self.contests)

    @property
    def censored(self) -> tuple[int, int]:
        """Seeds of the scheme and of the others that did not get there, in all cases."""
        return sum(c.censored[0] for c in self.contests), sum(c.censored[1] for c in self.contests)


def overall(found: Iterable[Study]) -> Iterator[Overall]:
    """Yield the means over the cases of one variant, for every scheme of one gradient a step and both roles."""
    groups: dict[tuple[str, str], list[Sooner]] = {}
    for study in found:
        for contest in study.contests():
            for role in _roles(study, contest):
                groups.setdefault((contest.scheme, role), []).append(contest)
    for (scheme, role), contests in groups.items():
        ratios = ([getattr(contest, name) for contest in contests] for name in ("images", "time", "distance"))
        yield Overall(scheme, role, contests, *map(_mean, ratios))


def _roles(study: Study, contest: Sooner) -> Iterator[str]:
    if contest.other == PAPER_BASELINE:
        yield PAPER_BASELINE
    if contest.other == study.strongest:
        yield STRONGEST


def _mean(ratios: list[Interval | None]) -> Interval | None:
    known = [ratio for ratio in ratios if ratio]
    return geometric_mean(known) if known else None
