"""Suites: a YAML file becomes frozen cases, validated as a whole before anything runs.

An error names the file, the key, the value and what would be accepted. Nothing here touches a device or an image.
"""

import inspect
import itertools
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from bench.cases import (
    MATRIX_AXES,
    Case,
    Distill,
    DistillMatrix,
    Exclude,
    Frozen,
    GameCase,
    Matrix,
    as_tuple,
    axis,
)
from bench.plans import Adam, Memory, Override, Quality, Samples, Target, Timing
from osgan import nets, spec
from osgan.distill.losses import as_loss as as_distillation_loss
from osgan.engine import Engine
from osgan.errors import InputError, cause_of, unknown
from osgan.losses import as_loss
from osgan.nets.classifiers import build_classifier
from osgan.nets.dfad import build_generator
from osgan.optim import OPTIMIZERS
from osgan.recipe import Schedule
from osgan.regularizers import parse_loss
from osgan.schemes import SCHEMES

SUITES = Path("suites")


class Suite(Frozen):
    """The keys of the file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Of the folder of its results: letters, digits, `_`, `.` and `-`."""
    about: str = ""
    """What it is for; stands in `python -m bench list`."""
    schemes: axis(str) = tuple(SCHEMES)  # type: ignore[valid-type]
    """The arms of every case."""
    matrix: Annotated[tuple[Matrix, ...], BeforeValidator(as_tuple)] = ()
    """Cases of GANs: one matrix, or a list of them."""
    distill: Annotated[tuple[DistillMatrix, ...], BeforeValidator(as_tuple)] = ()
    """Cases of data-free distillation: one matrix, or a list of them."""
    games: Annotated[tuple[GameCase, ...], BeforeValidator(as_tuple)] = ()
    """Cases of other games: one, or a list of them."""
    exclude: tuple[Exclude, ...] = ()
    """Cases to leave out."""
    optimizer: Adam = Adam()
    """The optimizers of every arm."""
    fallback: Literal["simultaneous"] | None = None
    """What an arm runs as where one_stage is not exact for the case; null skips the arm. Every table marks it."""
    overrides: tuple[Override, ...] = ()
    """Settings of one scheme's own: for other people's configurations, UNMATCHED on purpose."""
    timing: Timing | None = Timing()
    """How long a case is timed; null for a suite that only trains for quality."""
    quality: Quality | None = None
    """How long every arm is trained and how it is judged; null for a suite that only times."""
    samples: Samples = Samples()
    """Grids of generated images."""
    memory: Memory = Memory()
    """What is measured of memory."""
    targets: tuple[Target, ...] = ()
    """What a run shall show, stated beforehand."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the weights, the order of the data and the latents; `--seed` on the command line goes before it."""

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
                _check_players(case.distill)
            if case.game:
                _check_game(case.game, self.schemes)
        if self.quality and (
            self.games or (self.distill and (self.quality.tune or set(self.quality.variants) != {"plain"}))
        ):
            raise InputError("quality of games is not measured, and variants and `tune` are for the GANs of `matrix`")
        if self.quality and any(case.world_size > 1 for case in self.cases()):
            raise InputError("quality is trained in one process: leave `world_size` out, or `quality`")
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
            Case(**dict(zip(MATRIX_AXES, values, strict=True)))
            for matrix in self.matrix
            for values in itertools.product(*(getattr(matrix, axis) for axis in MATRIX_AXES))
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


def _check_players(players: Distill) -> None:
    with torch.device("meta"):
        for classifier in (players.teacher, players.student):
            if classifier is not None:
                build_classifier(classifier, num_classes=10, channels=3)
        if players.generator is not None:
            build_generator(players.generator, channels=3)


def _check_game(game: str, schemes: Sequence[str]) -> None:
    found = spec.resolve("game", game, {})
    if not inspect.isclass(found):
        raise InputError(f"game {game!r} is no class, but {type(found).__name__}: its methods are the schemes")
    if not any(callable(getattr(found, scheme, None)) for scheme in schemes):
        raise InputError(f"game {game!r} has none of the schemes {', '.join(schemes)} as a method")


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
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise InputError(f"{path}: not a YAML file: {error.problem or error.context}{where}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML file: {cause_of(error)}") from error
    except Exception as error:  # whatever its constructors raise for a tag and a value, or the depth of its brackets
        raise InputError(
            f"{path}: a value does not fit its tag (!!int, !!timestamp, ...) or is nested too deeply "
            f"({cause_of(error)}); write it without a tag"
        ) from error
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a mapping with name, matrix, ...; found {type(raw).__name__}")
    return validate(raw, str(path))


def validate(raw: Any, where: str) -> Suite:
    """Return a suite of plain values; raises InputError that names the place, the key and the value."""
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{where}: " + "; ".join(_explain(item) for item in error.errors())) from None
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a key that stands twice is refused, and 010, 1:30 and 2001-01-01 are what is written."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((key for key in keys if key != "<<" and keys.count(key) > 1), None):
            raise InputError(f"the key {twice!r} stands twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)


_TRAPS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TRAPS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "suite"
    if item["type"] == "extra_forbidden":
        return f"{key}: {unknown('key', item['loc'][-1], _keys_beside(item['loc']))}"
    message = item["msg"].removeprefix("Value error, ")
    given = item["input"]
    if isinstance(given, dict | list | tuple | Suite):
        return f"{key}: {message}"
    written = repr(given)
    return f"{key}: {message}, got {written if len(written) < 200 else written[:200] + '...'}"


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
