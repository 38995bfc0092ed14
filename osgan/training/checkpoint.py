"""Checkpoints of a training run: tensors in safetensors files, everything else in JSON, nothing pickled.

A checkpoint is a folder checkpoint-<step>/ with weights.safetensors (generator.*, discriminator.*, average.*),
state.safetensors (optimizers, random states: random.cpu, and random.cpu.1 and so on of further processes) and
checkpoint.json, which holds the recipe, the place in the data and the SHA-256 of both files. It appears whole, by a
rename, or not at all. Format versions:
1  2026-11: first.
"""

import hashlib
import json
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from osgan.errors import InputError, InputWarning, cause_of
from osgan.extras import needed

with needed("train"):
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

FORMAT_VERSION = 1
NAME = re.compile(r"checkpoint-[0-9]{9,16}")
FILES = ("weights.safetensors", "state.safetensors")

Tensors = dict[str, Tensor]


class DamagedCheckpointWarning(InputWarning):
    """A checkpoint cannot be read and the one before it is used."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    facts: dict[str, Any]
    weights: Tensors
    state: Tensors


def path_of(parent: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return parent / f"checkpoint-{step:09d}"


def save(parent: Path, step: int, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint under `parent` and keep the `keep` newest up to it; returns its folder."""
    path = path_of(parent, step)
    unfinished = parent / f".{path.name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        for name, tensors in zip(FILES, (checkpoint.weights, checkpoint.state), strict=True):
            save_file(_each_its_own(tensors), unfinished / name)
        facts = {
            "format": FORMAT_VERSION,
            "sha256": {name: _sha256(unfinished / name) for name in FILES},
            **checkpoint.facts,
        }
        (unfinished / "checkpoint.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(path, ignore_errors=True)
        unfinished.rename(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(f"cannot write {path}: {error}; the checkpoints before it are kept: make room") from None
    # What is newer than this one is damaged: it was passed over, and must not take the place of a whole one.
    for old in [found for found in all_of(parent) if _step(found) <= step][:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def _each_its_own(tensors: Tensors) -> Tensors:
    """Return the tensors in host memory that none shares: one that is tied under two names is written twice."""
    taken: set[int] = set()
    own: Tensors = {}
    for key, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        place = copied.untyped_storage().data_ptr()
        own[key] = copied.clone() if place in taken else copied
        taken.add(place)
    return own


def load(path: Path) -> Checkpoint:
    """Read one checkpoint; raises InputError if it is missing, damaged or of a format this version does not know."""
    file = path / "checkpoint.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        found = {name: _sha256(path / name) for name in FILES}
    except FileNotFoundError as error:
        raise InputError(f"{path} is not a checkpoint: {Path(error.filename).name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {cause_of(error)}") from None
    if isinstance(facts, dict) and facts.get("format") != FORMAT_VERSION:
        raise InputError(
            f"{file} has format {facts.get('format')!r}; this version of osgan reads format {FORMAT_VERSION}"
        )
    if objection := _objection(facts):
        raise InputError(f"{file} is damaged: {objection}")
    for name in FILES:
        if found[name] != facts["sha256"][name]:
            raise InputError(f"{path / name} is damaged: its SHA-256 is not the one that was written")
    try:
        weights, state = (load_file(path / name) for name in FILES)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds no tensors that can be read: {cause_of(error)}") from None
    for name, tensors in zip(FILES, (weights, state), strict=True):
        for key, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise InputError(f"{path / name} holds NaN or infinite values in {key}")
    return Checkpoint(facts, weights, state)


def _objection(facts: Any) -> str | None:
    """Say what a checkpoint's facts lack."""
    if not isinstance(facts, dict):
        return f"expected an object, found {type(facts).__name__}"
    whole = lambda value: type(value) is int and 0 <= value < 2**53  # noqa: E731
    expected = {
        "sha256": lambda value: isinstance(value, dict) and all(isinstance(value.get(name), str) for name in FILES),
        "recipe": lambda value: isinstance(value, dict),
        "step": whole,
        "batches_drawn": whole,
        "channels": whole,
        "num_classes": lambda value: value is None or whole(value),
    }
    wrong = [key for key, holds in expected.items() if key not in facts or not holds(facts[key])]
    return f"{', '.join(wrong)} missing or not what was written" if wrong else None


def load_from(path: Path) -> Checkpoint:
    """Read a checkpoint's folder, or the newest whole one in a run's folder; raises InputError where neither can be."""
    if (path / "checkpoint.json").exists():
        return load(path)
    if saved := load_newest(path):
        return saved
    raise InputError(f"{path} is not a checkpoint: checkpoint.json is missing, and there is no checkpoint-* in it")


def load_newest(parent: Path) -> Checkpoint | None:
    """Read the newest checkpoint under `parent` that is whole, with a warning for each that is not; None without any.

    Raises InputError if there are checkpoints and none of them can be read.
    """
    paths = all_of(parent)
    for path in reversed(paths):
        try:
            return load(path)
        except InputError as error:
            warnings.warn(f"{error}; the checkpoint before it is used", DamagedCheckpointWarning, stacklevel=2)
    if paths:
        raise InputError(f"none of the {len(paths)} checkpoints in {parent} can be read; remove them to start anew")
    return None


def all_of(parent: Path) -> list[Path]:
    """Return the checkpoints by their steps; what somebody else called checkpoint-best is none of them."""
    return sorted((path for path in parent.glob("checkpoint-*") if NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
