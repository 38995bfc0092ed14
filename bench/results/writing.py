"""Files that are whole or not there, whatever becomes of the disk meanwhile; and the error that says how to go on."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from osgan.errors import InputError

FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


class UnwritableError(InputError):
    """A run's folder cannot be written to; the rows that are in it stay."""


def unwritable(run: Path, what: str, error: OSError) -> UnwritableError:
    """Return the error for something of a run that cannot be written: the cause, and how to go on."""
    if not run.is_dir():
        return UnwritableError(f"cannot write {what}: {run} was removed while it was measured; start a new run")
    return UnwritableError(
        f"cannot write {what}: {error.strerror}; the cases before it are kept: {remedy(error)} and go on with: "
        f"python -m bench run --resume {run}"
    )


def remedy(error: OSError) -> str:
    """Return what mends an error of the disk."""
    return "make room" if error.errno in FULL else "make it writable"


def append_line(run: Path, name: str, what: str, line: bytes) -> None:
    """Append a line to a file of a run; once this returns it is on the disk; UnwritableError: nothing of it is."""
    file = run / name
    try:
        with file.open("ab") as handle:
            before = handle.tell()
            try:
                handle.write(line)
                handle.flush()
                os.fsync(handle.fileno())
            except OSError:
                with suppress(OSError):
                    os.truncate(file, before)
                raise
    except OSError as error:
        raise unwritable(run, f"{what} to {file}", error) from None


def write_within(run: Path, name: str, content: bytes) -> None:
    """Write a file at the path `name` within a run and the folders in between; raises UnwritableError."""
    try:
        for folder in reversed(Path(name).parents[:-1]):
            (run / folder).mkdir(exist_ok=True)  # never the run's own: it may have been removed
        write_atomically(run / name, content)
    except OSError as error:
        raise unwritable(run, str(run / name), error) from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file, or nothing and raise OSError."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as handle:
            handle.write(content.encode() if isinstance(content, str) else content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
