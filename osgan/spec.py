"""Names with options, the one spelling used on the command line, in suites and in reports.

`dcgan64+width=128+norm=batch` is the builder `dcgan64` called with two options, `rpgan+r1=0.05+r2=0.05` a loss with two
regularizers, `my_package.gan:build+depth=3` a user's own callable. Values are Python literals, anything else a string;
a `+` belongs to the value in an exponent (`r1=1e+3`) and within quotes (`path='a+b'`).
"""

import ast
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from osgan.errors import InputError, cause_of, unknown

MAX_LENGTH = 1000
"""Characters of a spec: what is longer is a mistake, and Python's parser has limits of its own."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_OPEN_EXPONENT = re.compile(r"=.*[\d.][eE]$")
_OPEN_QUOTE = re.compile(r"=\s*('[^']*|\"[^\"]*)$")


@dataclass(frozen=True)
class Spec:
    """A name and its options, in the order they were written."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "+".join([self.name, *(f"{key}={_written(value)}" for key, value in self.options)])


def parse(text: str) -> Spec:
    """Read `name+key=value+...`; raises InputError when an option has no `=` or stands twice."""
    if not isinstance(text, str):
        raise InputError(f"expected NAME+option=value, got {str(text)[:40]!r}, which is {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"cannot read {text[:40]!r}...: it has {len(text):,} characters, at most {MAX_LENGTH:,} can be"
        )
    name, *parts = (part.strip() for part in _split(text))
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and key and equals and value):
            raise InputError(
                f"cannot read {text!r} at {part!r}: expected NAME+option=value+option=value; a value that holds a + "
                "is written in quotes: option='a+b'"
            )
        if key in options:
            raise InputError(f"option {key!r} stands twice in {text!r}")
        options[key] = _literal(value)
    if not name:
        raise InputError(f"cannot read {text!r}: the name is empty")
    return Spec(name, tuple(options.items()))


def resolve(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return what `name` stands for: an entry of `table`, or the object at an import path `package.module:object`.

    Raises InputError for what is not there, and for whatever the module raises while it is imported.
    """
    if name in table:
        return table[name]
    if ":" not in name:
        raise unknown(kind, name, [*table, "package.module:object"])
    module_name, _, attribute = name.partition(":")
    if not module_name or module_name.startswith("."):
        raise InputError(f"{kind} {name!r}: cannot import {module_name!r}; write package.module:object")
    with theirs(f"{kind} {name!r}: cannot import {module_name!r}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{kind} {name!r}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?"
            ) from error
    with theirs(f"{kind} {name!r}: cannot read {attribute!r} of {module_name!r}"):
        try:
            return getattr(module, attribute)
        except AttributeError:
            raise InputError(f"{kind} {name!r}: {module_name!r} has no {attribute!r}") from None


def call(kind: str, spec: Spec, builder: Callable[..., Any], **defaults: Any) -> Any:
    """Call a builder with the spec's options over those `defaults` that its signature takes.

    Raises InputError for options that it does not take, and for whatever the builder raises.
    """
    if not callable(builder):
        raise InputError(f"{kind} {str(spec)!r}: cannot be called, it is {builder!r}")
    with theirs(f"{kind} {str(spec)!r} is no builder: nothing says which arguments it takes"):
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
    with theirs(f"{kind} {str(spec)!r} cannot be built"):
        return builder(**taken)


@contextmanager
def theirs(failed: str) -> Iterator[None]:
    """Run somebody else's code: whatever it raises is an InputError that says what failed, and why and where.

    SystemExit as well, else their sys.exit would end our command as if it had done its work. The user's Ctrl-C stays
    what it is.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise InputError(f"{failed}: {cause_of(error)}") from error


def _split(text: str) -> Iterator[str]:
    """Split at every + but those of exponents and within quotes."""
    part, *pieces = text.split("+")
    for piece in pieces:
        if _OPEN_QUOTE.search(part) or (_OPEN_EXPONENT.search(part) and piece[:1].isdigit()):
            part = f"{part}+{piece}"
        else:
            yield part
            part = piece
    yield part


def _written(value: Any) -> str:
    plain = isinstance(value, str) and "+" not in value and value == value.strip() != "" and _literal(value) == value
    return value if plain else repr(value)


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinions of what is a string here: `norm=1if`, `path=a\d`
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
