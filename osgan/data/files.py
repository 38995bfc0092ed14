"""PNG and JPEG files of a folder or a zip, decoded one at a time; StyleGAN's dataset.json gives the labels.

A zip is opened once in every process that reads it, so loader processes may be forked or spawned. Images are
not rotated by their EXIF tag.
"""

import json
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from osgan.data.raw import Header
from osgan.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY_MODES = ("1", "L", "LA", "I;16", "I;16L", "I;16B")


class ImageFiles:
    """The image files in `path`, a folder or a zip, by name; an index gives uint8 (C, H, W), C 1 or 3."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archives: dict[int, ZipFile] = {}
        self._is_folder = path.is_dir()
        if self._is_folder:
            files = (file for file in path.rglob("*") if file.is_file())
            names = [file.relative_to(path).as_posix() for file in files]
        else:
            try:
                names = self._archive().namelist()
            except (OSError, BadZipFile) as error:
                raise InputError(f"{path} cannot be read as a zip ({error})") from error
        self.names = sorted(
            name for name in names if name.lower().endswith(SUFFIXES) and PurePosixPath(name).name[0] != "."
        )
        if not self.names:
            raise InputError(f"{path} holds no images: expected {', '.join(SUFFIXES)} files at any depth")
        # dataset.json goes first: the sub-folders of an unpacked StyleGAN zip are no classes.
        if "dataset.json" in names:
            self.labels = self._read_labels()
        else:
            self.labels = _folder_labels(self.names) if self._is_folder else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        with self._image(self.names[index]) as image:
            return image_to_tensor(image, self.names[index])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_archives": {}}

    def headers(self) -> Iterator[Header]:
        """Give the header of every image, without decoding its pixels."""
        for name in self.names:
            with self._image(name) as image:
                header = name, image.size, 1 if image.mode in GREY_MODES else 3
            yield header

    @contextmanager
    def _image(self, name: str) -> Iterator[Image.Image]:
        try:
            with self._stream(name) as stream, Image.open(stream, formats=("PNG", "JPEG")) as image:
                yield image
        except Exception as error:  # Pillow and zipfile raise a dozen unrelated kinds for a damaged file
            raise InputError(f"{self.path}: cannot read the image {name!r} ({error}); replace or remove it") from error

    def _stream(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb") if self._is_folder else self._archive().open(name)

    def _archive(self) -> ZipFile:
        # A forked process shares the file position of its parent's archive, so it opens its own.
        process = os.getpid()
        if process not in self._archives:
            self._archives[process] = ZipFile(self.path)
        return self._archives[process]

    def _read_labels(self) -> Tensor | None:
        where = f"dataset.json in {self.path}"
        try:
            with self._stream("dataset.json") as stream:
                pairs = json.load(stream)["labels"]
            if pairs is None:
                return None
            labels = {name.replace("\\", "/"): operator.index(label) for name, label in pairs}
        except (ValueError, KeyError, TypeError, AttributeError, OSError, BadZipFile) as error:
            raise InputError(
                f'{where}: expected {{"labels": [["image.png", 0], ...]}} or {{"labels": null}} ({error!r})'
            ) from error
        unlabelled = [name for name in self.names if name not in labels]
        if unlabelled or len(labels) != len(self.names):
            example = f"; the first image without one is {unlabelled[0]!r}" if unlabelled else ""
            raise InputError(f"{where}: has labels for {len(labels)} images, but there are {len(self.names)}{example}")
        if min(labels.values()) < 0:
            raise InputError(f"{where}: label {min(labels.values())} is negative; labels count from 0")
        return torch.tensor([labels[name] for name in self.names])


def image_to_tensor(image: Image.Image, where: str) -> Tensor:
    """Return a PIL image as uint8 (1, H, W) if it is grey, else (3, H, W), transparency laid over white.

    Raises InputError, which opens with `where`, for integer and float modes: their range is not known.
    """
    if image.mode.startswith("I;16"):  # Pillow would clip at 255; the high byte is the 8-bit image
        return torch.from_numpy((np.asarray(image) >> 8).astype(np.uint8))[None]
    if image.mode in ("I", "F"):
        raise InputError(f"{where}: has the Pillow mode {image.mode!r}; convert it to 'L' or 'RGB'")
    mode = "L" if image.mode in GREY_MODES else "RGB"
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return F.pil_to_tensor(image.convert(mode))


def _folder_labels(names: list[str]) -> Tensor | None:
    folders = [PurePosixPath(name).parent for name in names]
    classes = sorted(set(folders))
    if len(classes) < 2 or any(len(folder.parts) != 1 for folder in classes):
        return None
    number = {folder: label for label, folder in enumerate(classes)}
    return torch.tensor([number[folder] for folder in folders])
