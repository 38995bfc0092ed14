"""Real images by name, as batches on the training device.

A set is decoded, cropped and resized once, at load time, and lives on the device as one uint8 tensor. One
that does not fit is streamed. Deliberately not here: augmentation, test splits, shapes other than square.
"""

import warnings
from pathlib import Path

import torch

from osgan.batches import Batches
from osgan.extras import needed
from osgan.memory import free_bytes

with needed("train"):
    from osgan.data.dataset import Dataset, DecodedImages, ResidentDataset, StreamedDataset
    from osgan.data.loading import available_workers
    from osgan.data.sources import NAMES, check_shape, find_root, read

__all__ = ["NAMES", "Batches", "Dataset", "ResidentDataset", "StreamedDataset", "StreamingWarning", "load"]

# Half of the free memory stays free: the networks, their optimizers and the activations come after the data.
RESIDENT_FRACTION = 0.5


class StreamingWarning(UserWarning):
    """A data set does not fit on the device and is decoded batch by batch instead."""


def load(
    name: str,
    *,
    resolution: int,
    device: torch.device | str,
    root: str | Path | None = None,
    channels: int | None = None,
    seed: int = 0,
    memory_limit_bytes: int | None = None,
) -> Dataset:
    """Return the data set called `name` as square images of `resolution` pixels on `device`.

    `name` is digits, mnist, fashion_mnist, cifar10, cifar100, svhn (also +split=extra) or stl10 (its unlabeled
    images; +split=train has labels); celeba (+label=Smiling), ffhq, imagenet or lsun:church_outdoor, which are
    never downloaded (`osgan.data.named`); synthetic+images=N+channels=C (drawn from `seed`), zip:PATH,
    folder:PATH, or package.module:object+option=value: a callable that returns a map-style data set of images
    or (image, label), an image being a PIL image or a uint8 tensor (C, H, W); it is given `root` if it takes one.

    `root` is where data lies: the argument, else OSGAN_DATA, else ~/.cache/osgan, the only one downloaded to.
    Images of any size are cropped to the square in their middle and resized (bicubic, antialiased). `channels` 1 or 3
    converts them; without it a set is grey only if all its images are. `memory_limit_bytes` stands in for the
    free memory of the device: at most half of it is filled, and a set that needs more is streamed, with a
    StreamingWarning. Raises MissingDataError for data that are not there, and InputError for a name, root, file or
    option that cannot be used.
    """
    check_shape(name, resolution, channels)
    device = torch.device(device)
    source = read(name, root=find_root(root), resolution=resolution, seed=seed)
    decoded = DecodedImages(source, resolution=resolution, channels=channels or source.channels)
    num_workers = available_workers(source)

    available_bytes = free_bytes(device) if memory_limit_bytes is None else memory_limit_bytes
    needed_bytes = len(decoded) * decoded.image_shape.numel()
    if needed_bytes <= RESIDENT_FRACTION * available_bytes:
        return ResidentDataset(name, decoded, device=device, num_workers=num_workers)
    warnings.warn(
        f"{name} needs {needed_bytes / 2**20:.1f} MiB on {device}, where {available_bytes / 2**20:.1f} MiB are "
        f"free and at most {RESIDENT_FRACTION:.0%} of that is filled: batches are decoded and copied one by "
        "one instead, which can be slower than training",
        StreamingWarning,
        stacklevel=2,
    )
    return StreamedDataset(name, decoded, device=device, num_workers=num_workers)
