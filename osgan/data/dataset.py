"""Batches of real images in [-1, 1], drawn on the device or streamed to it.

Both kinds decode with the same code, so their pixels are equal bit by bit. Neither augments, and drawing a
batch never waits for the device: the order of an epoch is drawn where the images are.
"""

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.utils.data
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from osgan.batches import Batch, Batches
from osgan.data.loading import load_in_order, loaded
from osgan.data.raw import Source
from osgan.errors import InputError

# As many images are decoded at once, in every process, as fit into this, raw and at their final shape.
CHUNK_BYTES = 2**25
TYPICAL_PIXELS = 512**2  # of an image where every one has a size of its own


class DecodedImages(torch.utils.data.Dataset[Batch]):
    """A source at its final shape: N indices give uint8 (N, C, H, W) and labels int64 (N,) or None."""

    def __init__(self, source: Source, *, resolution: int, channels: int) -> None:
        self.images = source.images
        self.labels = source.labels
        self.one_size = source.one_size
        self.image_shape = torch.Size((channels, resolution, resolution))
        pixels = max(source.height * source.width, resolution**2) if source.one_size else TYPICAL_PIXELS
        self.chunk_size = max(1, CHUNK_BYTES // (channels * pixels))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        decoded = torch.empty(len(indices), *self.image_shape, dtype=torch.uint8)
        for start in range(0, len(indices), self.chunk_size):
            chunk = slice(start, start + self.chunk_size)
            raw = [self._with_channels(self.images[index]) for index in indices[chunk]]
            decoded[chunk] = (
                self._square(torch.stack(raw)) if self.one_size else torch.stack([self._square(image) for image in raw])
            )
        return decoded, None if self.labels is None else self.labels[list(indices)]

    def fingerprint(self) -> dict[str, Any]:
        """Return plain values that differ where the set does, cheaply: no file is decoded."""
        digest = hashlib.sha256()
        if isinstance(self.images, Tensor):
            digest.update(self.images.contiguous().numpy().data)
        elif hasattr(self.images, "digest"):
            digest.update(self.images.digest().encode())
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return {"images": len(self), "shape": list(self.image_shape), "sha256": digest.hexdigest()}

    def _square(self, raw: Tensor) -> Tensor:
        square = F.center_crop(raw, [min(raw.shape[-2:])] * 2)
        size = list(self.image_shape[-2:])
        return F.resize(square, size, interpolation=InterpolationMode.BICUBIC, antialias=True)

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
        self._drawn_from = decoded.labels
        self.fingerprint = decoded.fingerprint()
        """What tells whether this is the set that somebody else saw: images, shape, a digest of names and labels."""

    def batches(self, batch_size: int, seed: int, rows: Sequence[int] | None = None) -> Batches:
        """Return endless batches on the device: images float32 (N, C, H, W) in [-1, 1], labels int64 (N,).

        Labels are None for a set without. Every epoch is a new permutation without its incomplete last batch;
        the same seed gives the same batches on the same kind of device. With `rows` only these of every batch are
        decoded and given: of several processes, each takes its own (`osgan.parallel.processes.local_rows`). Raises
        InputError, at the call, for a batch larger than the set.
        """
        if not 1 <= batch_size <= self.num_images:
            raise InputError(
                f"batch size {batch_size}: {self.name} has {self.num_images} images; "
                f"choose a batch size from 1 to {self.num_images}"
            )
        if rows is None:
            rows = range(batch_size)
        elif not rows or len(set(rows)) < len(rows) or not 0 <= min(rows) <= max(rows) < batch_size:
            raise InputError(f"rows {list(rows)} of a batch: expected one or more of 0 to {batch_size - 1}, none twice")
        return self._draw(batch_size, seed, torch.tensor(rows))

    def random_labels(self, n: int) -> Tensor:
        """Return n labels int64 (n,) on the device, as often as the set has each; it must have labels."""
        if self._drawn_from is None:
            raise InputError(f"{self.name} has no labels")
        self._drawn_from = self._drawn_from.to(self.device)
        return self._drawn_from[torch.randint(len(self._drawn_from), (n,), device=self.device)]

    @abstractmethod
    def images(self, which: int | Sequence[int]) -> Tensor:
        """Return the first `which` images (all, if there are fewer), or those at the indices `which`.

        Float32 (N, C, H, W) in [-1, 1] on the device, in the order of the source.
        """

    @abstractmethod
    def _draw(self, batch_size: int, seed: int, rows: Tensor) -> Batches: ...

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
        for chunk, images in zip(chunks, load_in_order(decoded, chunks, num_workers=num_workers), strict=True):
            self._images[chunk.start : chunk.stop] = images

    def images(self, which: int | Sequence[int]) -> Tensor:  # noqa: D102
        return _normalise(self._images[torch.tensor(self._indices(which), dtype=torch.int64, device=self.device)])

    def _draw(self, batch_size: int, seed: int, rows: Tensor) -> Batches:
        return _ResidentBatches(self._images, self._labels, batch_size, seed, rows)


class _ResidentBatches(Batches):
    """Gathers rows on the device: an order of the epoch, redrawn at its end, and a place in it that moves by itself."""

    def __init__(self, images: Tensor, labels: Tensor | None, batch_size: int, seed: int, rows: Tensor) -> None:
        super().__init__()
        self._images, self._labels, self._batch_size, self._seed = images, labels, batch_size, seed
        self._batches_an_epoch = len(images) // batch_size  # the incomplete last batch is dropped: shapes never change
        self._order = torch.empty(len(images), dtype=torch.int64, device=images.device)
        self._rows = rows.to(images.device)
        self._places = self._rows.clone()
        self._restart(0)

    def draw(self) -> Batch:
        rows = self._order[self._places]
        self._places += self._batch_size
        return _normalise(self._images[rows]), None if self._labels is None else self._labels[rows]

    def _prepare(self) -> None:
        if self.drawn % self._batches_an_epoch == 0:
            self._new_epoch()

    def _restart(self, drawn: int) -> None:
        self._generator = torch.Generator(self._images.device).manual_seed(self._seed)
        for _ in range(-(-drawn // self._batches_an_epoch)):
            self._new_epoch()
        self._places += drawn % self._batches_an_epoch * self._batch_size

    def _new_epoch(self) -> None:
        torch.randperm(len(self._order), generator=self._generator, out=self._order)
        self._places.copy_(self._rows)


class StreamedDataset(Dataset):
    """Images decoded batch by batch in `num_workers` processes; the order does not depend on how many."""

    resident = False

    def __init__(self, name: str, decoded: DecodedImages, *, device: torch.device, num_workers: int = 0) -> None:
        super().__init__(name, decoded, device)
        self._decoded = decoded
        self._num_workers = num_workers

    def images(self, which: int | Sequence[int]) -> Tensor:  # noqa: D102
        return _normalise(self._decoded[self._indices(which)][0].to(self.device))

    def _draw(self, batch_size: int, seed: int, rows: Tensor) -> Batches:
        return _StreamedBatches(self._decoded, batch_size, seed, rows, self.device, self._num_workers)


class _StreamedBatches(Batches):
    """Copies each batch into the same memory of the device, in the order of the work there."""

    def __init__(
        self,
        decoded: DecodedImages,
        batch_size: int,
        seed: int,
        rows: Tensor,
        device: torch.device,
        num_workers: int,
    ) -> None:
        super().__init__()
        self._decoded, self._batch_size, self._seed, self._num_workers = decoded, batch_size, seed, num_workers
        self._rows = rows
        self._images = torch.empty(len(rows), *decoded.image_shape, dtype=torch.uint8, device=device)
        self._labels = (
            None if decoded.labels is None else torch.empty(len(rows), dtype=decoded.labels.dtype, device=device)
        )
        self._restart(0)

    def draw(self) -> Batch:
        return _normalise(self._images), None if self._labels is None else self._labels.clone()

    def _prepare(self) -> None:
        images, labels = next(self._loader)
        self._images.copy_(images, non_blocking=True)
        if self._labels is not None and labels is not None:
            self._labels.copy_(labels, non_blocking=True)

    def _restart(self, drawn: int) -> None:
        self._loader = self._load(drawn)

    def _load(self, drawn: int) -> Iterator[Batch]:  # a generator: no worker starts before the first batch is asked for
        epochs = _epochs(len(self._decoded), self._batch_size, self._seed)
        yield from loaded(
            self._decoded,
            (indices[self._rows].tolist() for indices in itertools.islice(epochs, drawn, None)),
            num_workers=self._num_workers,
            pin_memory=self._images.device.type == "cuda",
        )


def _normalise(images: Tensor) -> Tensor:
    # Subtract first: dividing 127.5 by itself is exact even where a device multiplies by the reciprocal.
    return images.to(torch.float32).sub_(127.5).div_(127.5)


def _epochs(num_images: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(num_images, generator=generator)
        # Slices, not chunk(): the incomplete last batch is dropped, shapes never change.
        for start in range(0, num_images - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
