"""Variants of a training against the first of them, within a scheme: at equal images and at equal seconds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.analysis.statistics import Interval
from bench.analysis.time_to_quality import Study, interval_of
from bench.analysis.trained import Trained


@dataclass(frozen=True)
class Contrast:
    """One variant's metric over the reference variant's, seed by seed; above 1 it is worse.

    An interval is None where a seed of either has no value to compare, for one that failed is not left out, and for
    one seed alone.
    """

    study: Study
    """The variant's."""
    scheme: str
    at_images: Interval | None
    """At the end, when both have seen the same images."""
    at_seconds: Interval | None
    """When the faster of the two ends: the slower one's value at that time, between evaluations on a line."""


def contrasts(found: Iterable[Study]) -> Iterator[Contrast]:
    """Compare every variant of a case with the case's reference variant, scheme by scheme."""
    known = {(study.name, study.variant): study for study in found}
    for study in known.values():
        if study.variant == study.reference:
            continue
        theirs = known[study.name, study.reference].arms
        for scheme, runs in study.arms.items():
            mine, others = ({run.seed: run for run in arm} for arm in (runs, theirs.get(scheme, [])))
            pairs = [(mine[seed], others[seed]) for seed in mine] if mine.keys() == others.keys() else []
            at_images = [(run.final, other.final) for run, other in pairs]
            at_seconds = [_at_equal_seconds(run, other) for run, other in pairs]
            yield Contrast(study, scheme, interval_of(at_images), interval_of(at_seconds))


def _at_equal_seconds(run: Trained, other: Trained) -> tuple[float | None, float | None]:
    if run.final is None or other.final is None:
        return None, None
    end = min(run.seconds[-1], other.seconds[-1])
    return run.value_at(end), other.value_at(end)
