"""The files of a run that a report lays beside itself. A link is none of them: it may lead out of the run."""

import os
from collections.abc import Iterator
from pathlib import Path

RAW = ("run.json", "cases.jsonl", "quality.jsonl")
SAMPLES = "samples"


def plain_files(run: Path) -> tuple[list[str], list[str]]:
    """Return what a report takes along, by its path within the run, and what it leaves out: links, pipes and such."""
    found = {path.relative_to(run).as_posix(): path for path in _present(run)}
    plain = [name for name, path in found.items() if path.is_file() and not path.is_symlink()]
    return plain, [name for name in found if name not in plain]


def _present(run: Path) -> Iterator[Path]:
    """Yield what there is of the run's own files and within its samples, but for the folders there."""
    samples = run / SAMPLES
    whole = samples.is_dir() and not samples.is_symlink()
    yield from (run / name for name in RAW if os.path.lexists(run / name))
    if not whole and os.path.lexists(samples):
        yield samples
    for folder, folders, names in os.walk(samples if whole else os.devnull):
        folders.sort()
        paths = [Path(folder) / name for name in sorted([*folders, *names])]
        yield from (path for path in paths if path.is_symlink() or not path.is_dir())
