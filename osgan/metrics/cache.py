"""Features of real images on disk, named by the SHA-256 of all they come from; a damaged file is made anew."""

import hashlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

DEFAULT_FOLDER = Path("~/.cache/osgan/features")


class FeatureCacheWarning(UserWarning):
    """Cached features cannot be used, or features cannot be cached; they are computed, nothing is lost."""


def load_or_compute(
    folder: Path, key: str, compute: Callable[[], Tensor], reason_to_refuse: Callable[[Tensor], str | None]
) -> Tensor:
    """Return the features (N, F) stored under `key`, else compute and store them.

    `reason_to_refuse` looks at stored features and says what is wrong with them, None if nothing is. A damaged or
    refused file is replaced, with a FeatureCacheWarning; so is reported a folder that cannot be written to.
    """
    path = folder / f"{key}.safetensors"
    try:
        features = _read(path)
        if (reason := reason_to_refuse(features)) is None:
            return features
    except FileNotFoundError:
        reason = None
    except (OSError, SafetensorError, ValueError) as error:
        reason = str(error)
    if reason is not None:
        _warn(f"cached features {path} cannot be used ({reason}): they are computed again")
    features = compute()
    try:
        _write(path, features)
    except (OSError, SafetensorError) as error:
        _warn(f"features cannot be cached in {folder} ({error}): they will be computed again next time")
    return features


def _read(path: Path) -> Tensor:
    with safe_open(path, framework="pt") as file:
        if set(file.keys()) != {"features"}:
            raise ValueError("it holds no features")
        features = file.get_tensor("features")
        sha256 = (file.metadata() or {}).get("sha256")
    if sha256 != _sha256(features):
        raise ValueError("its SHA-256 is not the one it was written with")
    return features


def _write(path: Path, features: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may write the same file: each to a folder of its own, then the whole file takes its place at once.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as unfinished:
        save_file({"features": features}, Path(unfinished) / path.name, metadata={"sha256": _sha256(features)})
        (Path(unfinished) / path.name).replace(path)


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().numpy().tobytes()).hexdigest()


def _warn(message: str) -> None:
    warnings.warn(message, FeatureCacheWarning, stacklevel=4)
