"""The files of suites: found by name, read without YAML's traps, validated; and the cases that a command line picks.

An error names the file, the key, the value and what would be accepted.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bench.suite.cases import Case, DistillMatrix, Exclude, Frozen, GameCase, Matrix
from bench.suite.model import WITHOUT_NAMES, Suite
from bench.suite.plans import Adam, Memory, Override, Quality, Samples, Target, Timing
from osgan.errors import InputError, cause_of, unknown

SUITES = Path("suites")


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


def load(name: str, *, check_names: bool = True) -> Suite:
    """Read and validate a suite; raises InputError that names the file, the key and the value.

    Without `check_names` it is not asked whether what it names exists, which takes PyTorch and seconds.
    """
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
    return validate(raw, str(path), check_names=check_names)


def validate(raw: Any, where: str, *, check_names: bool = True) -> Suite:
    """Return a suite of plain values; raises InputError that names the place, the key and the value."""
    try:
        return Suite.model_validate(raw, context=None if check_names else WITHOUT_NAMES)
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
