"""The search for settings: what is tried, in which order, and which of it is kept."""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bench.suite.cases import Frozen

Tunable = Literal["generator_lr", "discriminator_lr", "beta1", "beta2"]


class Tune(Frozen):
    """The same search for every arm, with seeds that are not judged; the setting that ends best is kept.

    Either all points of a `grid`, or so many `trials` at random in a `space`, the same points for every arm.
    """

    images: Annotated[int, Field(gt=0)]
    """Real images of one trial."""
    grid: dict[Tunable, tuple[float, ...]] | None = Field(None, min_length=1)
    """The values to try; every point of their product is a trial."""
    space: dict[Tunable, tuple[float, float]] | None = Field(None, min_length=1)
    """The lowest and the highest value; rates are drawn by their logarithm, beta2 by that of 1 - beta2."""
    trials: Annotated[int, Field(ge=1)] = 20
    """Points drawn of a space."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Trainings of a point; what counts is the mean of their last values."""

    @model_validator(mode="after")
    def _is_one_search(self) -> "Tune":
        if (self.grid is None) == (self.space is None):
            raise ValueError("a search is of a 'grid' or of a 'space': give one of the two")
        for key, values in {**(self.grid or {}), **(self.space or {})}.items():
            least, most = (0.0, 1.0) if key.startswith("beta") else (math.ulp(0.0), math.inf)
            if not all(least <= value < most for value in values):
                raise ValueError(f"{key} to try are {list(values)}: each has to be {RANGES[key.startswith('beta')]}")
        for key, (low, high) in (self.space or {}).items():
            if not low < high:
                raise ValueError(f"the space of {key} is from {low:g} to {high:g}: the first has to be the lower")
        return self

    @property
    def parts(self) -> list[int | None]:
        """The jobs of the search: the whole grid at once, of a space one trial at a time."""
        return [None] if self.space is None else list(range(self.trials))

    def settings(self, part: int | None, seed: int) -> list[dict[str, float]]:
        """Return the points that a part tries, of a search that draws from this seed."""
        if self.space is None:
            grid = self.grid or {}
            return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
        chance = random.Random(f"{seed} {part}")
        return [{key: _round(_at(key, low, high, chance.random())) for key, (low, high) in self.space.items()}]

    def edges(self, setting: dict[str, float]) -> list[str]:
        """Return what of a setting lies in the outer tenths of the space: a better one may lie outside."""
        shares = {key: _share(key, low, high, setting[key]) for key, (low, high) in (self.space or {}).items()}
        return [key for key, share in shares.items() if not EDGE <= share <= 1 - EDGE]


def best_setting(trials: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
    """Return the setting of the trial with the lowest `value`; None if none has one."""
    done = [trial for trial in trials if trial["value"] is not None]
    return dict(min(done, key=lambda trial: trial["value"])["setting"]) if done else None


EDGE = 0.1
RANGES = ("above 0 and finite", "from 0 up to 1, 1 left out")


def _scale(key: str) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Return how a value is drawn: uniformly in what the first function makes of it; the second is its inverse."""
    if key == "beta1":
        return (lambda value: value), (lambda value: value)
    if key == "beta2":
        return (lambda value: -math.log1p(-value)), (lambda value: -math.expm1(-value))
    return math.log, math.exp


def _at(key: str, low: float, high: float, share: float) -> float:
    there, back = _scale(key)
    return back(there(low) + share * (there(high) - there(low)))


def _share(key: str, low: float, high: float, value: float) -> float:
    there, _ = _scale(key)
    return (there(value) - there(low)) / (there(high) - there(low))


def _round(value: float) -> float:
    """Return a value with four digits, as it is written; of one close to 1, of its distance from 1."""
    return 1 - float(f"{1 - value:.3g}") if value > 0.9 else float(f"{value:.3g}")
