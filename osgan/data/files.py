"""Image files of a folder or a zip, decoded one at a time; StyleGAN's dataset.json or the folders give the labels.

A zip is opened once in every process that reads it, so loader processes may be forked or spawned. Hidden files and
folders, and __MACOSX, are neither images nor classes.
"""

import hashlib
import json
import operator
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from osgan.data.raw import Header
from osgan.errors import InputError, InputWarning, cause_of

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
"""What is read, by Pillow's name, and the endings by which a file is taken for an image."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
NO_IMAGES = (".json", ".txt", ".csv", ".md", ".html", ".xml", ".yaml", ".yml", ".log", ".db", ".ini", ".py", ".sha256")
"""Endings of what lies beside images and is nobody's image; other files that are left out are counted and said."""
GREY_MODES = ("1", "L", "LA", "I;16", "I;16L", "I;16B")
DEPTHS = (10, 12, 14, 16)
"""Bits that cameras and scanners put into 16-bit files."""
MAX_LABEL = 1_000_000
SWAPPED = (5, 6, 7, 8)
"""Orientations of EXIF that turn a picture on its side."""


class ImageFiles:
    """The image files in `path`, a folder or a zip, by name; an index gives uint8 (C, H, W), C 1 or 3.

    `bits` are those that the largest value of all 16-bit images needs: 10, 12, 14 or 16. They are known after a look
    at the headers, and taken to be 16 before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bits = 16
        self._archives: dict[int, ZipFile] = {}
        self._is_folder = path.is_dir()
        self._stored = {name: stored for name, stored in self._listing() if not _is_hidden(name)}
        self.names = sorted(name for name in self._stored if name.lower().endswith(SUFFIXES))
        if not self.names:
            raise InputError(f"{path} holds no images: expected {', '.join(SUFFIXES)} files at any depth")
        if left_out := Counter(_suffix(n) for n in self._stored if not n.lower().endswith((*SUFFIXES, *NO_IMAGES))):
            listed = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(left_out.items()))
            warnings.warn(
                f"{path}: {left_out.total()} files are left out, of other kinds than {', '.join(SUFFIXES)}: {listed}",
                InputWarning,
                stacklevel=4,
            )

    @cached_property
    def labels(self) -> Tensor | None:
        """Labels int64 (M,) of dataset.json, else of the folders, else None."""
        top = _common_folder(self.names)
        # dataset.json goes first: the sub-folders of an unpacked StyleGAN zip are no classes.
        place = next((place for place in (f"{top}dataset.json", "dataset.json") if place in self._stored), None)
        return self._read_labels(place) if place else self._folder_labels(top)

    def _listing(self) -> list[tuple[str, str]]:
        """Return every file by its name with slashes, and by the name it is opened by."""
        if self._is_folder:
            return [(name, name) for name in _files_below(self.path)]
        try:
            stored = self._archive().namelist()
        except Exception as error:  # zipfile raises a dozen unrelated kinds for a damaged directory
            raise InputError(f"{self.path} cannot be read as a zip ({cause_of(error)})") from error
        pairs = [(name.replace("\\", "/"), name) for name in stored]
        return [(name, original) for name, original in pairs if not name.endswith("/")]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        with self._image(self.names[index]) as image:
            return image_to_tensor(image, self.names[index], bits=self.bits)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_archives": {}}

    def headers(self) -> Iterator[Header]:
        """Give the header of every image as it is shown; decodes the pixels of 16-bit images alone."""
        largest = 0
        for name in self.names:
            with self._image(name) as image:
                width, height = image.size
                if image.getexif().get(0x0112) in SWAPPED:
                    width, height = height, width
                header = name, (width, height), 1 if image.mode in GREY_MODES else 3
                if image.mode.startswith("I;16"):
                    largest = max(largest, int(np.asarray(image).max()))
                    self.bits = next(bits for bits in DEPTHS if largest < 2**bits)
            yield header

    def digest(self) -> str:
        """Return a SHA-256 of the names and sizes of all images, of a zip with their check sums; reads no image."""
        found = hashlib.sha256()
        for name in self.names:
            stored = self._stored[name]
            if self._is_folder:
                facts: tuple[int, ...] = ((self.path / stored).stat().st_size,)
            else:
                entry = self._archive().getinfo(stored)
                facts = entry.file_size, entry.CRC
            found.update(repr((name, facts)).encode())
        return found.hexdigest()

    @contextmanager
    def _image(self, name: str) -> Iterator[Image.Image]:
        try:
            with self._stream(name) as stream, Image.open(stream, formats=tuple(FORMATS)) as image:
                yield image
        except Exception as error:  # Pillow and zipfile raise a dozen unrelated kinds for a damaged file
            raise InputError(f"{self.path}: cannot read the image {name!r} ({error}); replace or remove it") from error

    def _stream(self, name: str) -> IO[bytes]:
        stored = self._stored[name]
        return (self.path / stored).open("rb") if self._is_folder else self._archive().open(stored)

    def _archive(self) -> ZipFile:
        # A forked process shares the file position of its parent's archive, so it opens its own.
        process = os.getpid()
        if process not in self._archives:
            self._archives[process] = ZipFile(self.path)
        return self._archives[process]

    def _read_labels(self, place: str) -> Tensor | None:
        where = f"{place} in {self.path}"
        folder = place.removesuffix("dataset.json")
        try:
            with self._stream(place) as stream:
                pairs = json.load(stream)["labels"]
            if pairs is None:
                return None
            labels = {folder + name.replace("\\", "/"): operator.index(label) for name, label in pairs}
        except Exception as error:  # of json, of the zip's decompression, of what somebody else wrote
            for archive in self._archives.values():
                archive.close()
            raise InputError(
                f'{where}: expected {{"labels": [["image.png", 0], ...]}} or {{"labels": null}} ({cause_of(error)})'
            ) from error
        unlabelled = [name for name in self.names if name not in labels]
        if unlabelled or len(labels) != len(self.names):
            example = f"; the first image without one is {unlabelled[0]!r}" if unlabelled else ""
            raise InputError(f"{where}: has labels for {len(labels)} images, but there are {len(self.names)}{example}")
        for extreme in (min(labels.values()), max(labels.values())):
            if not 0 <= extreme <= MAX_LABEL:
                raise InputError(f"{where}: label {extreme} is not in 0 to {MAX_LABEL:,}; number the classes from 0")
        return torch.tensor([labels[name] for name in self.names])

    def _folder_labels(self, top: str) -> Tensor | None:
        """Take the folders that hold images, side by side, for the classes; say so where that cannot be."""
        folders = [PurePosixPath(name.removeprefix(top)).parent for name in self.names]
        classes = sorted(set(folders))
        if len(classes) < 2:
            return None
        odd = [name for name, folder in zip(self.names, folders, strict=True) if len(folder.parts) != 1]
        if odd:
            where = "beside them" if PurePosixPath(odd[0].removeprefix(top)).parent == PurePosixPath() else "deeper"
            warnings.warn(
                f"{self.path}: its folders are not used as classes, because {len(odd)} of {len(self.names)} images lie "
                f"{where} ({odd[0]!r}): with every image in one folder a class, side by side, they would be",
                InputWarning,
                stacklevel=5,
            )
            return None
        number = {folder: label for label, folder in enumerate(classes)}
        return torch.tensor([number[folder] for folder in folders])


def _files_below(path: Path) -> Iterator[str]:
    """Give the files by their names from `path`, through links to folders, but into no folder that holds the link."""
    for folder, folders, files in os.walk(path, followlinks=True):
        here = Path(folder).absolute()
        around = {os.path.realpath(parent) for parent in (here, *here.parents)}
        folders[:] = [name for name in folders if os.path.realpath(Path(folder, name)) not in around]
        for name in files:
            if (file := Path(folder, name)).is_file():
                yield file.relative_to(path).as_posix()


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower() or "without an ending"


def _common_folder(names: list[str]) -> str:
    """Return the one folder that holds all images, with its slash, or nothing."""
    folder = os.path.commonpath([str(PurePosixPath(name).parent) for name in names])
    # One folder of images alone may be the only class there is: then it is not looked into.
    inner = {str(PurePosixPath(name).parent) for name in names}
    return f"{folder}/" if folder not in ("", ".") and inner != {folder} else ""


def image_to_tensor(image: Image.Image, where: str, *, bits: int = 16) -> Tensor:
    """Return a PIL image as uint8 (1, H, W) if it is grey, else (3, H, W), upright, transparency laid over white.

    Of a 16-bit image the upper 8 of its `bits` bits are kept. Raises InputError, which opens with `where`, for integer
    and float modes: their range is not known.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):  # Pillow would clip at 255
        return torch.from_numpy((np.asarray(image) >> (bits - 8)).clip(0, 255).astype(np.uint8))[None]
    if image.mode in ("I", "F"):
        raise InputError(f"{where}: has the Pillow mode {image.mode!r}; convert it to 'L' or 'RGB'")
    mode = "L" if image.mode in GREY_MODES else "RGB"
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return F.pil_to_tensor(image.convert(mode))
