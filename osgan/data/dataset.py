"""Batches of real images in [-1, 1], drawn on the device or streamed to it.

Both kinds decode with the same code, so their pixels are equal bit by bit. Neither augments, and drawing a
batch never waits for the device: the order of an epoch is drawn where the images are.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.utils.data
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from osgan.data.raw import Source
from osgan.errors import InputError

Batch = tuple[Tensor, Tensor | None]

# As many images are decoded at once, in every process, as fit into this, raw and at their final shape.
CHUNK_BYTES = 2**25
MAX_WORKERS = 8
# Below this many images a worker process takes longer to start than the images to decode.
MIN_IMAGES_PER_WORKER = 1000


class DecodedImages(torch.utils.data.Dataset[Batch]):
    """A source at its final shape: N indices give uint8 (N, C, H, W) and labels int64 (N,) or None."""

    def __init__(self, source: Source, *, resolution: int, channels: int) -> None:
        self.images = source.images
        self.labels = source.labels
        self.image_shape = torch.Size((channels, resolution, resolution))
        self.chunk_size = max(1, CHUNK_BYTES // (channels * max(source.height * source.width, resolution**2)))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        decoded = torch.empty(len(indices), *self.image_shape, dtype=torch.uint8)
        for start in range(0, len(indices), self.chunk_size):
            chunk = slice(start, start + self.chunk_size)
            raw = torch.stack([self._with_channels(self.images[index]) for index in indices[chunk]])
            square = F.center_crop(raw, [min(raw.shape[-2:])] * 2)
            size = list(self.image_shape[-2:])
            decoded[chunk] = F.resize(square, size, interpolation=InterpolationMode.BICUBIC, antialias=True)
        return decoded, None if self.labels is None else self.labels[list(indices)]

    def _with_channels(self, image: Tensor) -> Tensor:
        if len(image) == self.image_shape[0]:
            return image
        return F.rgb_to_grayscale(image) if len(image) == 3 else F.grayscale_to_rgb(image)


class Dataset(ABC):
    """A set of square images on `device`; `resident` says whether it lies there whole."""

    resident: bool

    def __init__(self, name: str, decoded: DecodedImages, device: torch.device) -> None:
        self.name = name
        self.num_images = len(decoded)
        self.image_shape = decoded.image_shape
        self.num_classes = None if decoded.labels is None else int(decoded.labels.max()) + 1
        self.device = device

    def batches(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """Return endless batches on the device: images float32 (N, C, H, W) in [-1, 1], labels int64 (N,).

        Labels are None for a set without. Every epoch is a new permutation without its incomplete last batch;
        the same seed gives the same batches on the same kind of device. Raises InputError, at the call, for a
        batch larger than the set.
        """
        if not 1 <= batch_size <= self.num_images:
            raise InputError(
                f"batch size {batch_size}: {self.name} has {self.num_images} images; "
                f"choose a batch size from 1 to {self.num_images}"
            )
        return self._draw(batch_size, seed)

    @abstractmethod
    def images(self, which: int | Sequence[int]) -> Tensor:
        """Return the first `which` images (all, if there are fewer), or those at the indices `which`.

        Float32 (N, C, H, W) in [-1, 1] on the device, in the order of the source.
        """

    @abstractmethod
    def _draw(self, batch_size: int, seed: int) -> Iterator[Batch]: ...

    def _indices(self, which: int | Sequence[int]) -> Sequence[int]:
        return range(min(which, self.num_images)) if isinstance(which, int) else which


class ResidentDataset(Dataset):
    """All images as one uint8 tensor on the device; drawing a batch is an index and a scale there."""

    resident = True

    def __init__(self, name: str, decoded: DecodedImages, *, device: torch.device, num_workers: int = 0) -> None:
        super().__init__(name, decoded, device)
        self._images = torch.empty(self.num_images, *self.image_shape, dtype=torch.uint8, device=device)
        self._labels = None if decoded.labels is None else decoded.labels.to(device)
        size = decoded.chunk_size
        chunks = [range(start, min(start + size, len(decoded))) for start in range(0, len(decoded), size)]
        for chunk, (images, _) in zip(chunks, _loader(decoded, chunks, num_workers=num_workers), strict=True):
            self._images[chunk.start : chunk.stop] = images

    def images(self, which: int | Sequence[int]) -> Tensor:  # noqa: D102
        return _normalise(self._images[torch.tensor(self._indices(which), dtype=torch.int64, device=self.device)])

    def _draw(self, batch_size: int, seed: int) -> Iterator[Batch]:
        for indices in _epochs(self.num_images, batch_size, seed, self.device):
            yield _normalise(self._images[indices]), None if self._labels is None else self._labels[indices]


class StreamedDataset(Dataset):
    """Images decoded batch by batch in `num_workers` processes; the order does not depend on how many."""

    resident = False

    def __init__(self, name: str, decoded: DecodedImages, *, device: torch.device, num_workers: int = 0) -> None:
        super().__init__(name, decoded, device)
        self._decoded = decoded
        self._num_workers = num_workers

    def images(self, which: int | Sequence[int]) -> Tensor:  # noqa: D102
        return _normalise(self._decoded[self._indices(which)][0].to(self.device))

    def _draw(self, batch_size: int, seed: int) -> Iterator[Batch]:
        epochs = _epochs(self.num_images, batch_size, seed, torch.device("cpu"))
        loader = _loader(
            self._decoded,
            (indices.tolist() for indices in epochs),
            num_workers=self._num_workers,
            pin_memory=self.device.type == "cuda",
        )
        for images, labels in loader:
            images = images.to(self.device, non_blocking=True)
            yield _normalise(images), None if labels is None else labels.to(self.device, non_blocking=True)


def available_workers(source: Source) -> int:
    """Return how many processes are worth starting to decode a source; 0 decodes in this one."""
    if isinstance(source.images, Tensor):
        return 0
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(num_cpus, MAX_WORKERS, len(source.images) // MIN_IMAGES_PER_WORKER)


def _normalise(images: Tensor) -> Tensor:
    # Subtract first: dividing 127.5 by itself is exact even where a device multiplies by the reciprocal.
    return images.to(torch.float32).sub_(127.5).div_(127.5)


def _epochs(num_images: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    while True:
        order = torch.randperm(num_images, generator=generator, device=device)
        # Slices, not chunk(): the incomplete last batch is dropped, shapes never change.
        for start in range(0, num_images - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def _loader(
    decoded: DecodedImages,
    index_lists: Iterable[Sequence[int]],
    *,
    num_workers: int,
    pin_memory: bool = False,
) -> Iterable[Batch]:
    # A generator of its own: otherwise the loader takes a number from torch's global one, and a run with a
    # resident and one with a streamed set would differ in their latents.
    return torch.utils.data.DataLoader(
        decoded,
        sampler=index_lists,
        batch_size=None,  # the sampler gives whole batches
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
