"""Data sets that are too large, or bound to terms of use, to be downloaded: CelebA, LSUN, FFHQ and ImageNet.

Each is read where it lies under the data root, in the form its authors hand it out. torchvision's readers are not used:
CelebA's wants files that no GAN needs, LSUN's leaves a pickle in the working directory.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from osgan.data.files import ImageFiles, image_to_tensor
from osgan.data.raw import Source, scanned
from osgan.errors import InputError, MissingDataError, unknown

CELEBA = ("celeba/img_align_celeba", "img_align_celeba")
FFHQ = ("ffhq.zip", "ffhq", "thumbnails128x128", "images1024x1024")
IMAGENET = ("imagenet/train", "ILSVRC/Data/CLS-LOC/train", "train")


def celeba(root: Path, *, label: str | None = None) -> Source:
    """Return CelebA's 202,599 aligned faces, 178x218; `label` names one of its 40 attributes as the class.

    Expects `celeba/img_align_celeba/*.jpg`, and for labels `celeba/list_attr_celeba.txt`.
    """
    folder = _first(
        "celeba", root, CELEBA, "unpack img_align_celeba.zip of mmlab.ie.cuhk.edu.hk/projects/CelebA.html there"
    )
    files = ImageFiles(folder)
    labels = None if label is None else _attributes(folder.parent / "list_attr_celeba.txt", label, files.names)
    return scanned(str(folder), files, labels, files.headers())


def _attributes(path: Path, label: str, names: list[str]) -> Tensor:
    try:
        with path.open(encoding="ascii") as lines:
            next(lines)
            known = next(lines).split()
            if label not in known:
                raise unknown("attribute of celeba", label, known)
            column = known.index(label) + 1
            values = {row[0]: int(row[column] == "1") for row in map(str.split, lines)}
        return torch.tensor([values[Path(name).name] for name in names])
    except FileNotFoundError:
        raise MissingDataError(
            f"dataset 'celeba+label={label}': labels are read from {path}, which is not there"
        ) from None
    except (StopIteration, IndexError, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected the number of images, the names of the attributes, and a line `FILE 1 -1 ...` for "
            f"every image ({error!r})"
        ) from error


def ffhq(root: Path) -> Source:
    """Return FFHQ's 70,000 faces, at any size: a folder or a zip of images."""
    path = _first(
        "ffhq", root, FFHQ, "get a folder from github.com/NVlabs/ffhq-dataset, or a zip from `osgan data prepare`"
    )
    files = ImageFiles(path)
    return scanned(str(path), files, None, files.headers())  # its sub-folders are no classes


def imagenet(root: Path) -> Source:
    """Return ImageNet's training images, of many sizes; the class is the folder's place in the order of names."""
    path = _first("imagenet", root, IMAGENET, "get ILSVRC 2012 from image-net.org: a folder of images a class")
    files = ImageFiles(path)
    if files.labels is None:
        raise InputError(f"{path}: expected a folder of images for each class, such as n01440764")
    return of_many_sizes(files, files.labels)


def lsun(root: Path, category: str) -> Source:
    """Return the training images of an LSUN category, of many sizes, from `CATEGORY_train_lmdb`."""
    folder = f"{category}_train_lmdb"
    places = (folder, f"lsun/{folder}")
    path = _first(f"lsun:{category}", root, places, "unpack the category's zip of github.com/fyu/lsun there")
    return of_many_sizes(LmdbImages(path), None)


class LmdbImages:
    """The encoded images of an LMDB by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _environment(path).begin() as transaction:
            self.keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
        if not self.keys:
            raise InputError(f"{path} holds no images")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Tensor:
        where = f"{self.path}, image {self.keys[index].decode(errors='replace')!r}"
        with _environment(self.path).begin() as transaction:
            content = transaction.get(self.keys[index])
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
                return image_to_tensor(image, where)
        except Exception as error:  # Pillow raises a dozen unrelated kinds for a damaged image
            raise InputError(f"{where}: cannot be read ({error})") from error


_OPEN: dict[Path, tuple[int, Any]] = {}


def _environment(path: Path) -> Any:
    """Open an LMDB, once in a process; one that came with a fork must not be used, and is closed first."""
    process, environment = _OPEN.get(path, (None, None))
    if process == os.getpid():
        return environment
    if environment is not None:
        environment.close()
    try:
        import lmdb
    except ImportError:
        raise MissingDataError(
            f"{path} is an LMDB, and the package that reads it is not installed: pip install 'osgan[lsun]'"
        ) from None
    try:
        _OPEN[path] = os.getpid(), lmdb.open(str(path), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise InputError(f"{path} cannot be read as an LMDB ({error})") from error
    return _OPEN[path][1]


def of_many_sizes(images: Any, labels: Tensor | None) -> Source:
    """Return the source of images that are cropped to the square in their middle one by one."""
    return Source(images=images, labels=labels, height=0, width=0, channels=3, one_size=False)


def _first(name: str, root: Path, places: tuple[str, ...], remedy: str) -> Path:
    for place in places:
        if (root / place).exists():
            return root / place
    listed = " nor ".join(str(root / place) for place in places)
    raise MissingDataError(
        f"dataset {name!r}: found nothing at {listed}; {remedy}, or name the folder that has it with OSGAN_DATA or "
        "--data"
    )


NAMED_SETS: dict[str, Callable[..., Source]] = {"celeba": celeba, "ffhq": ffhq, "imagenet": imagenet}
