"""From the name of a data set and the data root to the raw images.

Nothing is cropped, resized or copied to a device here. A wrong name, root, path or label is found here, before training
starts; a file whose pixels are damaged only when it is decoded.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from osgan import spec
from osgan.data.builtin import SPLITS, TORCHVISION_SETS, digits, synthetic, torchvision_set
from osgan.data.files import ImageFiles
from osgan.data.named import NAMED_SETS, lsun
from osgan.data.raw import Source, scanned
from osgan.data.user import read_user
from osgan.errors import InputError, MissingDataError, unknown

DEFAULT_ROOT = Path("~/.cache/osgan")
MAX_RESOLUTION = 16_384
NAMES = (
    "digits",
    *TORCHVISION_SETS,
    *NAMED_SETS,
    "lsun:CATEGORY",
    "synthetic",
    "zip:PATH",
    "folder:PATH",
    "package.module:object",
)


@dataclass(frozen=True)
class Root:
    """The folder in which data is looked for; only the default one is downloaded to."""

    path: Path
    is_default: bool


def find_root(root: str | Path | None) -> Root:
    """Return `root`, else OSGAN_DATA, else ~/.cache/osgan; raises InputError for an unreadable one."""
    origin = "OSGAN_DATA" if root is None else "--data"
    given = os.environ.get("OSGAN_DATA") if root is None else root
    if not given:
        return Root(DEFAULT_ROOT.expanduser(), is_default=True)
    try:
        path = Path(given).expanduser()
        os.scandir(path).close()
    except (OSError, RuntimeError, ValueError) as error:  # no such folder, no such user, a name that no file can have
        cause = getattr(error, "strerror", None) or error
        raise InputError(f"data root {given} (from {origin}): {cause}; expected a readable folder") from error
    return Root(path, is_default=False)


def check_shape(name: str, resolution: object, channels: object) -> None:
    """Raise InputError for a resolution or a number of channels that images cannot be brought to."""
    if type(resolution) is not int or not 1 <= resolution <= MAX_RESOLUTION:
        raise InputError(
            f"resolution {resolution!r} of {name!r}: must be a whole number of pixels from 1 to {MAX_RESOLUTION:,}"
        )
    if channels is not None and (type(channels) is not int or channels not in (1, 3)):
        raise InputError(f"channels {channels!r} of {name!r}: must be 1 (grey) or 3 (RGB)")


def check_name(name: str) -> None:
    """Raise InputError for a name that no data set can have; whether its files are there is not asked."""
    if name.startswith(("zip:", "folder:", "lsun:")):
        return
    parsed = spec.parse(name)
    if ":" in parsed.name:
        spec.resolve("dataset", parsed.name, {})
    elif parsed.name not in ("digits", "synthetic", *NAMED_SETS, *TORCHVISION_SETS):
        raise unknown("dataset", parsed.name, NAMES)


def read(name: str, *, root: Root, resolution: int, seed: int) -> Source:
    """Return the raw images that `name` stands for; `resolution` and `seed` are for synthetic ones.

    Raises InputError for a name that does not exist, and for files that are missing.
    """
    if name.startswith(("zip:", "folder:")):
        files = ImageFiles(_find(name, root))
        return scanned(str(files.path), files, files.labels, files.headers())

    if name.startswith("lsun:"):
        return lsun(root.path, name.removeprefix("lsun:"))

    parsed = spec.parse(name)
    if parsed.name == "synthetic":
        return spec.call("dataset", parsed, partial(synthetic, resolution, seed))
    if parsed.name in NAMED_SETS:
        return spec.call("dataset", parsed, partial(NAMED_SETS[parsed.name], root.path))
    if ":" in parsed.name:
        builder = spec.resolve("dataset", parsed.name, {})
        if not callable(builder):
            raise InputError(f"dataset {name!r}: {builder!r} is not callable; expected a class or function")
        return read_user(name, spec.call("dataset", parsed, builder, root=root.path))

    if parsed.name != "digits" and parsed.name not in TORCHVISION_SETS:
        raise unknown("dataset", parsed.name, NAMES)
    if parsed.name in SPLITS:

        def of_split(split: str | None = None) -> Source:
            return torchvision_set(parsed.name, root.path, download=root.is_default, split=split)

        return spec.call("dataset", parsed, of_split)
    if parsed.options:
        raise InputError(f"dataset {name!r}: {parsed.name} takes no options")
    if parsed.name == "digits":
        return digits()
    return torchvision_set(parsed.name, root.path, download=root.is_default)


def _find(name: str, root: Root) -> Path:
    kind, _, path = name.partition(":")
    try:
        candidates = [Path(path).expanduser(), root.path / path] if path else []
        there = [candidate for candidate in candidates if candidate.exists()]
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"dataset {name[:200]!r}: {getattr(error, 'strerror', None) or error}") from error
    for candidate in candidates:
        if candidate in there:
            if candidate.is_dir() == (kind == "folder"):
                return candidate
            other = "folder" if candidate.is_dir() else "zip"
            raise InputError(f"dataset {name!r}: {candidate} is no {kind}; did you mean {other}:{path}?")
    places = " nor ".join(str(candidate.absolute()) for candidate in dict.fromkeys(candidates))
    raise MissingDataError(f"dataset {name!r}: found nothing at {places or 'an empty path'}; give a path that exists")
