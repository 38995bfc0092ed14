"""The teacher: trained once on labelled images, kept as safetensors under a name that follows from how it was made."""

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from osgan.data.sources import DEFAULT_ROOT
from osgan.distill.settings import TeacherSettings, is_milestone
from osgan.distill.split import Split
from osgan.errors import InputError, InputWarning, NonFiniteLossError
from osgan.nets.classifiers import build_classifier

DEFAULT_CACHE = DEFAULT_ROOT / "teachers"
CACHE_VERSION = 1
"""1: the settings, the training images and the shapes of the weights name the file."""


def load_teacher(
    split: Split,
    settings: TeacherSettings,
    *,
    train: bool = False,
    weights: Path | None = None,
    cache: Path | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> nn.Module:
    """Return a trained teacher in eval mode on the split's device.

    Its weights come from the file `weights`, else from the cache. What is not cached is trained if `train` says so;
    else a network at an import path is taken as its builder gives it, trained elsewhere, and a name is refused with an
    InputError. `on_epoch` is called with epochs done and in all.
    """
    torch.manual_seed(settings.seed)
    teacher = build_classifier(settings.network, num_classes=split.num_classes, channels=split.channels)
    teacher.to(split.train.images.device)
    if weights is not None:
        _load(teacher, weights)
        return teacher.eval()
    file = cache_file(teacher, split, settings, cache)
    if file.exists():
        _load(teacher, file)
    elif train:
        try_to_save(teacher, file)
        train_classifier(teacher, split, settings, on_epoch)
        try:
            save_weights(teacher, file)
        except InputError as error:
            warnings.warn(f"the teacher is not kept: {error}", InputWarning, stacklevel=2)
    elif ":" not in settings.network:
        raise InputError(
            f"no trained teacher {settings.network!r} for {split.name!r} with these settings in {file.parent}: add "
            "--train-teacher, or name a file with --teacher-weights"
        )
    return teacher.eval()


def train_classifier(
    classifier: nn.Module,
    split: Split,
    settings: TeacherSettings,
    on_epoch: Callable[[int, int], None] | None = None,
) -> None:
    """Train on the training part; raises NonFiniteLossError when an epoch's loss is not finite."""
    classifier.train()
    optimizer = torch.optim.SGD(
        classifier.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    images, labels = split.train.images, split.train.labels
    if settings.batch_size > len(images):
        raise InputError(f"the teacher's batch size {settings.batch_size}: there are {len(images)} training images")
    order_of = torch.Generator(images.device).manual_seed(settings.seed)
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(images), generator=order_of, device=images.device)
        for start in range(0, len(images) - settings.batch_size + 1, settings.batch_size):
            rows = order[start : start + settings.batch_size]
            batch = augment(images[rows], order_of) if settings.augment else images[rows]
            optimizer.zero_grad()
            loss = cross_entropy(classifier(split.standardise(batch)), labels[rows])
            loss.backward()
            optimizer.step()
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the teacher's loss is {loss.item()} after epoch {epoch}; lower its learning rate"
            )
        if is_milestone(epoch, settings.epochs, settings.milestones):
            for group in optimizer.param_groups:
                group["lr"] /= 10
        if on_epoch is not None:
            on_epoch(epoch, settings.epochs)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random crop of each image (N, C, H, W) padded by 4 black pixels, mirrored or not, on its device."""
    n, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(9, (2, n, 1), generator=generator, device=device)
    mirrored = torch.randint(2, (n, 1), generator=generator, device=device).bool()
    rows = down + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = right + torch.where(mirrored, columns.flip(0), columns)
    padded = pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)  # channels last: they come along as they are
    cropped = padded[torch.arange(n, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()


def cache_file(teacher: nn.Module, split: Split, settings: TeacherSettings, cache: Path | None = None) -> Path:
    """Return where a teacher of these settings, images and shapes is kept."""
    shapes = {name: list(tensor.shape) for name, tensor in teacher.state_dict().items()}
    made_of = [CACHE_VERSION, asdict(settings), split.name, split.fingerprint(), shapes]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    readable = "".join(c if c.isalnum() else "-" for c in f"{split.name}-{settings.network}")[-60:]
    return (cache or DEFAULT_CACHE).expanduser() / f"{readable}-{key}.safetensors"


def save_weights(network: nn.Module, file: Path) -> None:
    """Write weights and buffers as safetensors; the file is whole or not there. Raises InputError."""
    with _written_beside(network, file) as part:
        part.replace(file)


def try_to_save(network: nn.Module, file: Path) -> None:
    """Raise InputError if `save_weights` would; the file stays as it is."""
    with _written_beside(network, file) as part:
        part.unlink()


@contextmanager
def _written_beside(network: nn.Module, file: Path) -> Iterator[Path]:
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, part)
        yield part
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write {file}: {why}; make room there, or choose another place") from error


def _load(network: nn.Module, file: Path) -> None:
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"the weights in {file} cannot be loaded: {error}") from error
