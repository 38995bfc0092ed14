"""What osgan needs beyond PyTorch comes with its extras; where a package is missing, one sentence names the extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from osgan.errors import MissingPackageError


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Import packages in the context: where one is missing, a sentence says so, with the line that installs it.

    `extra` is the one of osgan's extras that brings them. Raises MissingPackageError; a module of osgan's own that is
    missing stays a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "osgan").partition(".")[0]
        if package == "osgan":
            raise
        raise MissingPackageError(
            f"the package {package!r} is not installed; what it is needed for comes with: pip install 'osgan[{extra}]'"
        ) from error
