"""The data sets with a name of their own: digits, MNIST, Fashion-MNIST, CIFAR-10 and random images.

scikit-learn and torchvision own the formats and the downloads; only train splits are read.
"""

from pathlib import Path

import torch
import torchvision

from osgan.data.raw import Source, in_memory
from osgan.errors import InputError

TORCHVISION_SETS = {
    "mnist": (torchvision.datasets.MNIST, "MNIST/raw/train-images-idx3-ubyte"),
    "fashion_mnist": (torchvision.datasets.FashionMNIST, "FashionMNIST/raw/train-images-idx3-ubyte"),
    "cifar10": (torchvision.datasets.CIFAR10, "cifar-10-batches-py/data_batch_1"),
}


def synthetic(resolution: int, seed: int, *, images: int = 1024, channels: int = 3) -> Source:
    """Return random pixels, the same ones for the same seed, without labels."""
    if not (isinstance(images, int) and images >= 1 and channels in (1, 3)):
        raise InputError(f"synthetic images={images}, channels={channels}: expected 1 or more images, 1 or 3 channels")
    shape = (images, channels, resolution, resolution)
    generator = torch.Generator().manual_seed(seed)
    return in_memory(torch.randint(256, shape, dtype=torch.uint8, generator=generator), None)


def digits() -> Source:
    """Return scikit-learn's 1797 handwritten digits, 8x8 grey, which need no files."""
    from sklearn.datasets import load_digits  # takes a second to import, and only this needs it

    pixels, labels = load_digits(return_X_y=True)
    grey = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) * (255 / 16)
    return in_memory(grey.round().to(torch.uint8), torch.from_numpy(labels).long())


def torchvision_set(name: str, root: Path, *, download: bool) -> Source:
    """Return a train split of torchvision from `root`; raises InputError saying what was expected there."""
    dataset_class, expected = TORCHVISION_SETS[name]
    try:
        dataset = dataset_class(root, train=True, download=download)
    except Exception as error:  # no network, no mirror, a damaged file: torchvision has a type for each
        tried = "nor could it be downloaded" if download else "and only the default root is downloaded to"
        raise InputError(
            f"dataset {name!r} cannot be read from the data root {root}, {tried} ({error}). Expected: "
            f"{root / expected} and the files beside it, as torchvision.datasets.{dataset_class.__name__} "
            "writes them. Put them there, or name the folder that has them with OSGAN_DATA or --data"
        ) from error
    pixels = torch.as_tensor(dataset.data)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return in_memory(images, torch.as_tensor(dataset.targets))
