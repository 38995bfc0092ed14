"""Errors a user can mend: the message names the place, the value and the remedy. Commands print them and exit 2."""

import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_OURS = [str(Path(__file__).parents[1] / package) for package in ("osgan", "bench")]
_NOT_THEIRS = *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")), *_OURS, "<"


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and what would be accepted."""


class NotExactError(InputError):
    """One-stage training would not be exact for this discriminator and loss; `simultaneous` is."""


class MissingDataError(InputError):
    """A data set, or the package that reads it, is not on this machine."""


class MissingPackageError(InputError, ImportError):
    """A package that one of osgan's extras brings is not installed; the message has the line that installs it."""


class InputWarning(UserWarning):
    """Something the user gave can be used, but is probably not what was meant; said once, with the remedy."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite during training; the message names the step and the loss."""


def unknown(kind: str, value: object, accepted: Iterable[str]) -> InputError:
    """Return the error for a name that does not exist: it lists what does and suggests the nearest."""
    names = sorted(accepted)
    nearest = get_close_matches(str(value), names, n=1)
    suggestion = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return InputError(f"unknown {kind} {value!r}.{suggestion} There is: {', '.join(names)}")


def cause_of(error: BaseException) -> str:
    """Return what somebody else's code raised, in one line, and the innermost line of theirs that it came from."""
    try:
        message = str(error).strip().partition("\n")[0]
    except Exception:  # theirs as well
        message = "(its message cannot be read)"
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    return f"{what} ({own[-1].filename}, line {own[-1].lineno})" if own else what
