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
    """Return the source of uint8 images (M, C, H, W), C 1 or 3, and labels int64 (M,) in host memory."""
    _, channels, height, width = images.shape
    return Source(images=images, labels=labels, height=height, width=width, channels=channels)


def scanned(where: str, images: Images, labels: Tensor | None, headers: Iterable[Header]) -> Source:
    """Return the source of `images` after a look at all their headers; raises InputError for mixed sizes."""
    first: Header | None = None
    channels = 1
    for name, size, num_channels in headers:
        first = first or (name, size, num_channels)
        if size != first[1]:
            raise InputError(
                f"{where}: {name!r} is {size[0]}x{size[1]} pixels but {first[0]!r} is "
                f"{first[1][0]}x{first[1][1]}; bring all images to one size first, for example with "
                "StyleGAN's dataset_tool.py --resolution"
            )
        channels = max(channels, num_channels)
    if first is None:
        raise InputError(f"{where} is empty")
    return Source(images=images, labels=labels, height=first[1][1], width=first[1][0], channels=channels)
