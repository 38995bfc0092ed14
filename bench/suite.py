"""Suites: a YAML file becomes frozen cases, validated as a whole before anything runs.

An error names the file, the key, the value and what would be accepted. Nothing here touches a device or an image.
"""

import itertools
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from osgan import nets, spec
from osgan.distill.losses import as_loss as as_distillation_loss
from osgan.engine import Engine
from osgan.errors import InputError, unknown
from osgan.losses import as_loss
from osgan.optim import OPTIMIZERS
from osgan.recipe import Schedule
from osgan.regularizers import parse_loss
from osgan.schemes import SCHEMES

SUITES = Path("suites")
AXES = ("dataset", "architecture", "loss", "batch_size", "precision", "engine")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _axis(item: Any) -> Any:
    return Annotated[tuple[item, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


Precision = Literal["fp32", "tf32", "bf16"]
BatchSize = Annotated[int, Field(gt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Frozen(BaseModel):
    """A part of a suite: immutable, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Distill(Frozen):
    """The players of data-free distillation; what is None is as published for the data set (`osgan.distill`)."""

    teacher: str
    student: str
    generator: str
    student_steps: Annotated[int, Field(ge=1)] = 5
    teacher_epochs: Annotated[int, Field(ge=1)] | None = None
    student_lr: Positive | None = None
    generator_lr: Positive | None = None

    def __str__(self) -> str:
        return f"{self.teacher} to {self.student} by {self.generator}, {self.student_steps} student steps"


class Case(Frozen):
    """One point of the matrix. Its arms differ in the scheme and in nothing else."""

    dataset: str
    architecture: str
    loss: str
    batch_size: BatchSize
    precision: Precision = "fp32"
    engine: str = "eager"
    distill: Distill | None = None
    """Data-free distillation; `architecture` then names its players."""
    game: str | None = None
    """Another game, a class at an import path; `architecture` then is that path."""

    @property
    def is_gan(self) -> bool:
        """Whether the case trains G and D of `architecture` on `dataset`."""
        return self.distill is None and self.game is None

    @property
    def name(self) -> str:
        """The case's one name, in results and reports."""
        return " ".join(str(getattr(self, axis)) for axis in AXES)


class Matrix(Frozen):
    """The axes whose product gives cases; a single value stands for a list of one."""

    dataset: _axis(str)  # type: ignore[valid-type]
    architecture: _axis(str)  # type: ignore[valid-type]
    loss: _axis(str)  # type: ignore[valid-type]
    batch_size: _axis(BatchSize)  # type: ignore[valid-type]
    precision: _axis(Precision) = ("fp32",)  # type: ignore[valid-type]
    engine: _axis(str) = ("eager",)  # type: ignore[valid-type]


class DistillMatrix(Frozen):
    """Cases of data-free distillation: the product of the axes, over one set of players."""

    dataset: _axis(str)  # type: ignore[valid-type]
    teacher: str
    student: str
    generator: str
    loss: _axis(str) = ("l1",)  # type: ignore[valid-type]
    batch_size: _axis(BatchSize)  # type: ignore[valid-type]
    student_steps: _axis(Annotated[int, Field(ge=1)]) = (5,)  # type: ignore[valid-type]
    teacher_epochs: int | None = None
    student_lr: Positive | None = None
    generator_lr: Positive | None = None

    def cases(self) -> Iterator[Case]:
        """Expand the axes, in the order written."""
        axes = (self.dataset, self.loss, self.batch_size, self.student_steps)
        players = self.model_dump(exclude={"dataset", "loss", "batch_size", "student_steps"})
        for dataset, loss, batch_size, steps in itertools.product(*axes):
            distill = Distill(**players, student_steps=steps)
            yield Case(dataset=dataset, architecture=str(distill), loss=loss, batch_size=batch_size, distill=distill)


class GameCase(Frozen):
    """A game that brings its own data and networks: a class at an import path, its methods named as the schemes."""

    game: str
    dataset: str = "its own"
    loss: str = "its own"
    batch_size: BatchSize = 64

    def cases(self) -> Iterator[Case]:
        """Return the one case."""
        yield Case(**self.model_dump(), architecture=self.game)


class Exclude(Frozen):
    """Cases to leave out: those that match on every axis given."""

    dataset: _axis(str) | None = None  # type: ignore[valid-type]
    architecture: _axis(str) | None = None  # type: ignore[valid-type]
    loss: _axis(str) | None = None  # type: ignore[valid-type]
    batch_size: _axis(BatchSize) | None = None  # type: ignore[valid-type]
    precision: _axis(Precision) | None = None  # type: ignore[valid-type]
    engine: _axis(str) | None = None  # type: ignore[valid-type]

    def matches(self, case: Case) -> bool:
        """Whether the case is left out by this entry."""
        given = {axis: getattr(self, axis) for axis in AXES if getattr(self, axis) is not None}
        return bool(given) and all(getattr(case, axis) in accepted for axis, accepted in given.items())


class Settings(Frozen):
    """What an override sets in the place of the case's and the suite's own."""

    architecture: str | None = None
    generator_lr: Positive | None = None
    discriminator_lr: Positive | None = None
    schedule: str | None = None
    """Of the learning rates, in quality runs; as `osgan.recipe.Recipe` writes it."""


class Override(Exclude):
    """Settings of one scheme's own, in the cases that match on every axis given: the arms are then UNMATCHED.

    For other people's configurations only, which are to be reproduced as they are; every table marks such a case.
    """

    scheme: str
    set: Settings

    def applies(self, case: Case, scheme: str) -> bool:
        """Whether it sets anything for this scheme of this case."""
        everywhere = all(getattr(self, axis) is None for axis in AXES)
        return scheme == self.scheme and (everywhere or self.matches(case))


class Among(Exclude):
    """The cases that a target speaks of: those that match on every axis given."""


class Target(Frozen):
    """What the suite wants a run to show, stated beforehand; see bench/targets.py.

    `speedup` and `ceiling` are geometric means of one_stage against a baseline, the latter over the FLOP ceiling;
    `matmul_share` and `idle_share` are of the one_stage step, and every case has to meet them.
    """

    what: Literal["speedup", "ceiling", "matmul_share", "idle_share"]
    baseline: str | None = None
    at_least: Positive | None = None
    at_most: Positive | None = None
    among: Among | None = None
    """Of these cases only; of all without it."""

    @model_validator(mode="after")
    def _is_whole(self) -> "Target":
        against = self.what in ("speedup", "ceiling")
        limit = {"speedup": "at_least", "matmul_share": "at_least", "idle_share": "at_most"}.get(self.what)
        for key, needed in (("baseline", against), ("at_least", limit == "at_least"), ("at_most", limit == "at_most")):
            if (getattr(self, key) is not None) != needed:
                raise ValueError(f"a target of kind {self.what!r} {'needs' if needed else 'takes no'} {key!r}")
        if self.baseline is not None and self.baseline not in SCHEMES:
            raise unknown("baseline", self.baseline, SCHEMES)
        return self

    def speaks_of(self, case: dict[str, Any]) -> bool:
        """Whether a case, as a record gives it, is one of the target's."""
        given = self.among.model_dump(exclude_none=True) if self.among else {}
        return all(case.get(axis) in accepted for axis, accepted in given.items())


class Adam(Frozen):
    """Adam for both players of every arm, and how often each is updated."""

    generator_lr: Positive = 2e-4
    discriminator_lr: Positive = 2e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.5, 0.999)
    n_critic: Annotated[int, Field(ge=1)] = 1
    """Updates of D for one of G, each on a batch of its own."""


class Timing(Frozen):
    """When a case has been timed enough."""

    target_half_width: Positive = 0.02
    """Stop when the 95 % interval of every ratio is within this of its median, relatively."""
    budget_s: Positive = 60.0
    """Stop when the timed rounds of a case have taken this long."""
    min_rounds: Annotated[int, Field(ge=5)] = 10
    round_ms: Positive = 50.0
    """The fastest arm's round lasts at least this long: it sets the steps of a round, the same for every arm."""
    warmup_s: Positive = 3.0
    """Most seconds of untimed warm-up an arm."""
    time_limit_s: Positive = 900.0
    """A case that takes longer, everything counted, is ended and recorded as failed."""


class Memory(Frozen):
    """What is measured of memory beside each arm's peak."""

    largest_batch: bool = False
    """Search the largest batch that fits, per scheme; on a GPU only."""


class Samples(Frozen):
    """Grids of generated images, the same latents for every arm."""

    steps: Annotated[int, Field(ge=0)] = 0
    """Train every arm for this many steps in all before its grid is made; the timed steps count."""
    images: Annotated[int, Field(ge=1, le=1024)] = 64


class Variant(Frozen):
    """A cure for what simultaneous descent loses, given to every scheme alike: what is set overrides the case's."""

    optimizer: str = "adam"
    regularizers: str = ""
    """Added to the loss, written as there: `r1=0.1`."""
    generator_lr: Positive | None = None
    discriminator_lr: Positive | None = None


class Tune(Frozen):
    """The same small search for every arm: all settings of the grid, one seed that is not judged, the best one kept."""

    images: Annotated[int, Field(gt=0)]
    grid: dict[Literal["generator_lr", "discriminator_lr"], tuple[Positive, ...]] = Field(min_length=1)

    def settings(self) -> list[dict[str, float]]:
        """Return every point of the grid."""
        return [dict(zip(self.grid, point, strict=True)) for point in itertools.product(*self.grid.values())]


class Quality(Frozen):
    """Every arm trained for the same number of images, judged on the way; see bench/quality.py."""

    images: Annotated[int, Field(gt=0)]
    """Real images that every arm sees."""
    evaluate_every: Annotated[int, Field(gt=0)]
    seeds: Annotated[int, Field(ge=1)] = 3
    metric: Literal["fd", "kd"] = "fd"
    extractor: str = "efficientnet-lite0"
    generated_images: Annotated[int, Field(ge=4)] = 5_000
    real_images: Annotated[int, Field(ge=4)] = 10_000
    ema_half_life: Annotated[int, Field(ge=0)] = 10_000
    targets: tuple[Annotated[float, Field(ge=1)], ...] = (1.0, 1.25, 1.5, 2.0)
    """Values to reach, in units of the final value of the best two-stage baseline."""
    levels: tuple[Positive, ...] = ()
    """Values to reach as they stand; for distillation, the student's error in percent."""
    variants: dict[str, Variant] = {"plain": Variant()}
    tune: Tune | None = None
    time_limit_s: Positive = 3600.0
    """A seed of a case that takes longer, all its arms together, is ended and recorded as failed."""


class Suite(Frozen):
    """A whole suite as written; `cases` expands it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    about: str = ""
    schemes: _axis(str) = tuple(SCHEMES)  # type: ignore[valid-type]
    matrix: Annotated[tuple[Matrix, ...], BeforeValidator(_as_tuple)] = ()
    distill: Annotated[tuple[DistillMatrix, ...], BeforeValidator(_as_tuple)] = ()
    games: Annotated[tuple[GameCase, ...], BeforeValidator(_as_tuple)] = ()
    exclude: tuple[Exclude, ...] = ()
    optimizer: Adam = Adam()
    fallback: Literal["simultaneous"] | None = None
    """What an arm runs as where one_stage is not exact for the case; None skips the arm. Every table marks it."""
    overrides: tuple[Override, ...] = ()
    timing: Timing | None = Timing()
    """None for a suite that only trains for quality."""
    quality: Quality | None = None
    samples: Samples = Samples()
    memory: Memory = Memory()
    targets: tuple[Target, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _names_exist(self) -> "Suite":
        for scheme in self.schemes:
            if scheme not in SCHEMES:
                raise unknown("scheme", scheme, SCHEMES)
        for override in self.overrides:
            if override.scheme not in self.schemes:
                raise unknown("scheme of an override", override.scheme, self.schemes)
            if not any(override.applies(case, override.scheme) for case in self.cases()):
                raise InputError(f"an override of {override.scheme} matches no case")
            if override.set.schedule:
                Schedule(override.set.schedule, num_steps=1)
        gans = [case for case in self.cases() if case.is_gan]
        for case in gans:
            name, _ = parse_loss(case.loss)
            as_loss(name)
            Engine.parse(case.engine, case.precision)
        theirs = (override.set.architecture for override in self.overrides if override.set.architecture)
        for architecture in dict.fromkeys([*(case.architecture for case in gans), *theirs]):
            with torch.device("meta"):
                nets.build(architecture, channels=3, num_classes=10)
        for case in self.cases():
            if case.distill:
                as_distillation_loss(case.loss)
            if case.game:
                spec.resolve("game", case.game, {})
        if self.quality and (
            self.games or (self.distill and (self.quality.tune or set(self.quality.variants) != {"plain"}))
        ):
            raise InputError("quality of games is not measured, and variants and `tune` are for the GANs of `matrix`")
        if self.timing is None and self.quality is None:
            raise InputError("nothing to do: `timing` is null and there is no `quality`")
        for name, variant in (self.quality.variants if self.quality else {}).items():
            if variant.optimizer not in OPTIMIZERS:
                raise unknown(f"optimizer of variant {name!r}:", variant.optimizer, OPTIMIZERS)
            parse_loss(with_regularizers("wgan", variant.regularizers))
        return self

    def settings(self, case: Case, scheme: str) -> dict[str, Any]:
        """Return what overrides set for one scheme of a case: empty for arms that differ in the scheme alone."""
        found: dict[str, Any] = {}
        for override in self.overrides:
            if override.applies(case, scheme):
                found |= override.set.model_dump(exclude_none=True)
        return found

    def cases(self) -> list[Case]:
        """Expand the matrices, in the order written, without repeats and without what is excluded."""
        points = (
            Case(**dict(zip(AXES, values, strict=True)))
            for matrix in self.matrix
            for values in itertools.product(*(getattr(matrix, axis) for axis in AXES))
        )
        sources: tuple[DistillMatrix | GameCase, ...] = (*self.distill, *self.games)
        others = (case for source in sources for case in source.cases())
        cases = [case for case in dict.fromkeys([*points, *others]) if not any(e.matches(case) for e in self.exclude)]
        if not cases:
            raise InputError(
                "no case is left: `exclude` matches all of them"
                if self.exclude
                else "there is no case: write a `matrix`"
            )
        return cases


def with_regularizers(loss: str, regularizers: str) -> str:
    """Return the loss with more regularizers than it has."""
    return f"{loss}+{regularizers}" if regularizers else loss


def select(cases: list[Case], only: Sequence[str], exclude: Sequence[str]) -> list[Case]:
    """Keep the cases whose name holds one of `only` (all, if empty) and none of `exclude`; * and ? are wildcards."""
    chosen = [case for case in cases if not only or _holds(case.name, only)]
    chosen = [case for case in chosen if not _holds(case.name, exclude)]
    if not chosen:
        raise InputError(
            f"no case is left of {len(cases)} with --only {list(only)} and --exclude {list(exclude)}; names are like "
            f"{cases[0].name!r}"
        )
    return chosen


def _holds(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, f"*{pattern}*") for pattern in patterns)


def find(name: str) -> Path:
    """Return the file of a suite given by name (suites/NAME.yaml) or by path; raises InputError if there is none."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"suite file {name!r} does not exist")
        return path
    known = {path.stem: path for path in SUITES.glob("*.yaml")}
    if name not in known:
        raise unknown("suite", name, [*known, "a path to a .yaml file"])
    return known[name]


def load(name: str) -> Suite:
    """Read and validate a suite; raises InputError that names the file, the key and the value."""
    path = find(name)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a mapping with name, matrix, ...; found {type(raw).__name__}")
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(_explain(item) for item in error.errors())) from None


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "suite"
    if item["type"] == "extra_forbidden":
        return f"{key}: {unknown('key', item['loc'][-1], _keys_beside(item['loc']))}"
    message = item["msg"].removeprefix("Value error, ")
    given = item["input"]
    if isinstance(given, dict | list | tuple | Suite):
        return f"{key}: {message}"
    return f"{key}: {message}, got {given!r}"


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    models: dict[str, type[Frozen]] = {
        "matrix": Matrix,
        "distill": DistillMatrix,
        "games": GameCase,
        "exclude": Exclude,
        "overrides": Override,
        "optimizer": Adam,
        "timing": Timing,
        "samples": Samples,
        "memory": Memory,
        "quality": Quality,
        "targets": Target,
    }
    return list((models[location[0]] if len(location) > 1 else Suite).model_fields)
