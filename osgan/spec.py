"""Names with options, the one spelling used on the command line, in suites and in reports.

`dcgan64+width=128+norm=batch` is the builder `dcgan64` called with two options, `rpgan+r1=0.05+r2=0.05` a loss with two
regularizers, `my_package.gan:build+depth=3` a user's own callable. Values are Python literals, anything else a string.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from osgan.errors import InputError, unknown

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Spec:
    """A name and its options, in the order they were written."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "+".join([self.name, *(f"{key}={_written(value)}" for key, value in self.options)])


def parse(text: str) -> Spec:
    """Read `name+key=value+...`; raises InputError when an option has no `=` or stands twice."""
    name, *parts = (part.strip() for part in text.split("+"))
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and key and equals and value):
            raise InputError(f"cannot read {text!r} at {part!r}: expected NAME+option=value+option=value")
        if key in options:
            raise InputError(f"option {key!r} stands twice in {text!r}")
        options[key] = _literal(value)
    if not name:
        raise InputError(f"cannot read {text!r}: the name is empty")
    return Spec(name, tuple(options.items()))


def resolve(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return what `name` stands for: an entry of `table`, or the object at an import path `package.module:object`."""
    if name in table:
        return table[name]
    if ":" not in name:
        raise unknown(kind, name, [*table, "package.module:object"])
    module_name, _, attribute = name.partition(":")
    if not module_name or module_name.startswith("."):
        raise InputError(f"{kind} {name!r}: cannot import {module_name!r}; write package.module:object")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{kind} {name!r}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise InputError(f"{kind} {name!r}: {module_name!r} has no {attribute!r}") from None


def call(kind: str, spec: Spec, builder: Callable[..., Any], **defaults: Any) -> Any:
    """Call a builder with the spec's options over those `defaults` that its signature takes."""
    if not callable(builder):
        raise InputError(f"{kind} {str(spec)!r}: cannot be called, it is {builder!r}")
    parameters = inspect.signature(builder).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for key, _ in spec.options:
        if key not in parameters and not open_ended:
            raise InputError(f"{kind} {str(spec)!r}: {unknown('option', key, parameters)}")
    taken = {key: value for key, value in defaults.items() if open_ended or key in parameters}
    taken |= dict(spec.options)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in taken and parameter.kind in _BY_NAME:
            raise InputError(f"{kind} {str(spec)!r} needs the option {key!r}: write {spec.name}+{key}=VALUE")
    return builder(**taken)


def _written(value: Any) -> str:
    return value if isinstance(value, str) and _literal(value) == value else repr(value)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
