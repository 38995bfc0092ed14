"""Errors a user can mend: the message names the place, the value and the remedy. Commands print them and exit 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and what would be accepted."""


class NotExactError(InputError):
    """One-stage training would not be exact for this discriminator and loss; `simultaneous` is."""


class MissingDataError(InputError):
    """A data set, or the package that reads it, is not on this machine."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite during training; the message names the step and the loss."""


def unknown(kind: str, value: object, accepted: Iterable[str]) -> InputError:
    """Return the error for a name that does not exist: it lists what does and suggests the nearest."""
    names = sorted(accepted)
    nearest = get_close_matches(str(value), names, n=1)
    suggestion = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return InputError(f"unknown {kind} {value!r}.{suggestion} There is: {', '.join(names)}")
