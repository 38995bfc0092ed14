"""Raw images as a source gives them: uint8, at their own size, decoded one at a time.

Nothing here knows where images come from, or where they go.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from osgan.errors import InputError

# What an image is called in an error, its width and height, its channels.
Header = tuple[str, tuple[int, int], int]


class Images(Protocol):
    """Images: an index gives uint8 (C, H, W), C 1 or 3; a tensor (M, C, H, W) is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """Raw images, their labels int64 (M,) or None, their size in pixels; 3 channels if any of them is RGB.

    Without `one_size` every image has a size of its own, and `height` and `width` say nothing.
    """

    images: Images
    labels: Tensor | None
    height: int
    width: int
    channels: int
    one_size: bool = True


def in_memory(images: Tensor, labels: Tensor | None) -> Source:
    """Return the source of uint8 images (M, C, H, W), C 1 or 3, and labels int64 (M,) in host memory.

    Raises InputError where there are not as many labels as images.
    """
    _, channels, height, width = images.shape
    if labels is not None and len(labels) != len(images):
        raise InputError(
            f"{len(images)} images have {len(labels)} labels: one of their files is cut short or another's"
        )
    return Source(images=images, labels=labels, height=height, width=width, channels=channels)


def scanned(where: str, images: Images, labels: Tensor | None, headers: Iterable[Header]) -> Source:
    """Return the source of `images` after a look at all their headers; raises InputError where there is none."""
    sizes: set[tuple[int, int]] = set()
    channels = 1
    for _, size, num_channels in headers:
        sizes.add(size)
        channels = max(channels, num_channels)
    if not sizes:
        raise InputError(f"{where} is empty")
    if len(sizes) > 1:
        return Source(images=images, labels=labels, height=0, width=0, channels=channels, one_size=False)
    ((width, height),) = sizes
    return Source(images=images, labels=labels, height=height, width=width, channels=channels)
