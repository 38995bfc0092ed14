"""How a command line ends: a user's mistake and our own warnings are sentences, on stderr."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from osgan.errors import InputError, NonFiniteLossError


def run(application: Callable[[], Any]) -> None:
    """Run a command line; an InputError becomes a message on stderr and exit status 2, a lost training status 1."""
    warnings.showwarning = _show_warning
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # package.module:object may lie in the current folder, as under python -m
    try:
        application()
    except (InputError, NonFiniteLossError) as error:
        from osgan.parallel import processes  # with PyTorch, which takes seconds to import

        where = f" of rank {os.environ['RANK']}" if processes.launched() else ""
        Console(stderr=True, soft_wrap=True).print(f"error{where}: {error}", markup=False, highlight=False, style="red")
        sys.exit(2 if isinstance(error, InputError) else 1)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as a sentence; others as Python does."""
    ours = category.__module__.partition(".")[0] in ("osgan", "bench")
    text = f"warning: {message}" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False, style="yellow" if ours else "")
