"""A user's own data set, come in by import path.

Every image is read once before training, for its size, channels and label: such a data set has no headers.
"""

import operator
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from osgan.data.files import MAX_LABEL, image_to_tensor
from osgan.data.raw import Header, Source, scanned
from osgan.errors import InputError, cause_of
from osgan.spec import theirs


class UserImages:
    """A user's map-style data set; an index gives uint8 (C, H, W), C 1 or 3."""

    def __init__(self, name: str, dataset: Any) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise InputError(f"dataset {name!r} gave {dataset!r}; expected a map-style one, with len() and an index")
        self.name = name
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        return self.item(index)[0]

    def item(self, index: int) -> tuple[Tensor, int | None]:
        """Return one image and its label, or None where the data set has images only."""
        where = f"dataset {self.name!r}, image {index}"
        with theirs(where):
            item = self.dataset[index]
            image, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
            if isinstance(image, Image.Image):  # which may read its file only now
                image = image_to_tensor(image, where)
        if not isinstance(image, Tensor):
            raise InputError(f"{where}: is {type(image).__name__}; expected a PIL image or a uint8 tensor (C, H, W)")
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) not in (1, 3) or not image.numel():
            raise InputError(
                f"{where}: is a {image.dtype} tensor {tuple(image.shape)}; expected uint8 (C, H, W) with C 1 or 3"
            )
        try:
            number = None if label is None else operator.index(label)
        except Exception as error:
            raise InputError(f"{where}: label {label!r} is not an integer ({cause_of(error)})") from error
        if number is not None and not 0 <= number <= MAX_LABEL:
            raise InputError(f"{where}: label {number} is not in 0 to {MAX_LABEL:,}; number the classes from 0")
        return image, number


def read_user(name: str, dataset: Any) -> Source:
    """Return the source of a map-style data set of images or (image, label).

    An image is a PIL image or a uint8 tensor (C, H, W), a label an integer from 0. Raises InputError for
    anything else.
    """
    images = UserImages(name, dataset)
    with theirs(f"dataset {name!r}: its len() fails"):
        num_images = len(images)
    headers: list[Header] = []
    labels: list[int] = []
    for index in range(num_images):
        image, label = images.item(index)
        headers.append((f"image {index}", (image.shape[2], image.shape[1]), image.shape[0]))
        labels += [] if label is None else [label]
    if len(labels) not in (0, num_images):
        raise InputError(f"dataset {name!r}: expected a label for every image, or for none")
    return scanned(f"dataset {name!r}", images, torch.tensor(labels) if labels else None, headers)
