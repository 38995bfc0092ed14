"""The trainings of a quality run, as its rows have them: one scheme, one seed, judged on the way.

Lower is better for every metric here. What is judged is the moving average of G where there is one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from bench.results import QualityRow
from bench.results.rows import QualityArm
from osgan.names import SCHEME_NAMES

TWINS = (
    ("two_stage", "two_stage_frozen"),
    ("two_stage_frozen", "two_stage"),
    ("two_stage_reused", "two_stage_reused_frozen"),
    ("two_stage_reused_frozen", "two_stage_reused"),
)
"""Schemes that differ in the gradients that they throw away: their steps are the same, bit for bit."""
COLLAPSE = 2.0
"""A run has collapsed when its last value is more than this many times its own best."""


@dataclass(frozen=True)
class Trained:
    """One scheme, one seed: the metric as it was judged on the way."""

    seed: int
    images: list[int]
    seconds: list[float]
    """Of training, by the wall clock."""
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

    def value_at(self, seconds: float) -> float | None:
        """Return the metric after so many training seconds; None before the first and after the last evaluation."""
        if not self.seconds or not self.seconds[0] <= seconds <= self.seconds[-1]:
            return None
        return float(np.interp(seconds, self.seconds, self.values))


def arms_of(rows: Iterable[QualityRow]) -> dict[str, list[Trained]]:
    """Return the trainings of rows of one case and variant, by scheme, in the order of their seeds."""
    arms: dict[str, list[Trained]] = {}
    for row in sorted(rows, key=lambda row: row.seed or 0):
        for scheme, arm in row.arms.items():
            arms.setdefault(scheme, []).append(_trained(row, arm))
    return arms


def with_twins(arms: dict[str, list[Trained]], timed: Collection[str]) -> dict[str, list[Trained]]:
    """Return the arms, and of a scheme that was timed and not trained the trainings of one that takes the same steps.

    Those are the same to the last bit, so only their time is to be measured: see `TWINS`.
    """
    found = {scheme: arms[twin] for twin, scheme in TWINS if twin in arms and scheme in timed and scheme not in arms}
    order = [scheme for scheme in SCHEME_NAMES if scheme in arms or scheme in found]
    return {scheme: (arms | found)[scheme] for scheme in dict.fromkeys([*order, *arms])}


def finals(runs: Iterable[Trained]) -> list[float]:
    """Return the last values of those that reached their end."""
    return [run.final for run in runs if run.final is not None]


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
