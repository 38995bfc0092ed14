"""The data sets that are small enough to be had by name: digits, MNIST, CIFAR, SVHN, STL-10 and random images.

scikit-learn and torchvision own the formats and the downloads; no test split is read. CIFAR's files are Python pickles:
torchvision opens them only where their md5 is that of the official ones.
"""

from pathlib import Path
from typing import Any

import torch
import torchvision

from osgan.data.raw import Source, in_memory
from osgan.errors import InputError, MissingDataError, unknown
from osgan.extras import needed

TORCHVISION_SETS = {
    "mnist": (torchvision.datasets.MNIST, "MNIST/raw/train-images-idx3-ubyte"),
    "fashion_mnist": (torchvision.datasets.FashionMNIST, "FashionMNIST/raw/train-images-idx3-ubyte"),
    "cifar10": (torchvision.datasets.CIFAR10, "cifar-10-batches-py/data_batch_1"),
    "cifar100": (torchvision.datasets.CIFAR100, "cifar-100-python/train"),
    "svhn": (torchvision.datasets.SVHN, "train_32x32.mat"),
    "stl10": (torchvision.datasets.STL10, "stl10_binary/unlabeled_X.bin"),
}
SPLITS = {"svhn": ("train", "extra"), "stl10": ("unlabeled", "train")}
"""The first is what the name alone stands for; the 100,000 images of STL-10 that GANs are trained on have no labels."""


def synthetic(resolution: int, seed: int, *, images: int = 1024, channels: int = 3) -> Source:
    """Return random pixels, the same ones for the same seed, without labels."""
    counts = type(images) is int and images >= 1 and type(channels) is int and channels in (1, 3)
    if not counts:
        raise InputError(
            f"synthetic images={images!r}, channels={channels!r}: expected 1 or more images, 1 or 3 channels"
        )
    shape = (images, channels, resolution, resolution)
    generator = torch.Generator().manual_seed(seed)
    return in_memory(torch.randint(256, shape, dtype=torch.uint8, generator=generator), None)


def digits() -> Source:
    """Return scikit-learn's 1797 handwritten digits, 8x8 grey, which need no files."""
    with needed("train"):
        from sklearn.datasets import load_digits  # takes a second to import, and only this needs it

    pixels, labels = load_digits(return_X_y=True)
    grey = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) * (255 / 16)
    return in_memory(grey.round().to(torch.uint8), torch.from_numpy(labels).long())


def torchvision_set(name: str, root: Path, *, download: bool, split: str | None = None) -> Source:
    """Return a split of torchvision from `root`; raises MissingDataError saying what was expected there."""
    dataset_class, expected = TORCHVISION_SETS[name]
    splits = SPLITS.get(name, ())
    if split is not None and split not in splits:
        raise unknown(f"split of {name}", split, splits)
    options: dict[str, Any] = {"split": split or splits[0]} if splits else {"train": True}
    try:
        dataset = dataset_class(root, **options, download=download)
    except Exception as error:  # no network, no mirror, a damaged file: torchvision has a type for each
        tried = "nor could it be downloaded" if download else "and only the default root is downloaded to"
        raise MissingDataError(
            f"dataset {name!r} cannot be read from the data root {root}, {tried} ({error}). Expected: "
            f"{root / expected} and the files beside it, as torchvision.datasets.{dataset_class.__name__} "
            "writes them. Put them there, or name the folder that has them with OSGAN_DATA or --data"
        ) from error
    pixels = torch.as_tensor(dataset.data)
    if splits:  # (N, C, H, W)
        labels = torch.as_tensor(dataset.labels).long()
        return in_memory(pixels, None if labels.min() < 0 else labels)
    if len(dataset.targets) != len(pixels):
        raise InputError(
            f"dataset {name!r} in {root}: {len(pixels)} images have {len(dataset.targets)} labels; is one of the files "
            "cut short? Fetch it anew"
        )
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return in_memory(images, torch.as_tensor(dataset.targets))
