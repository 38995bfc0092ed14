"""What a loop draws: batches of real images that lie on the device, whoever makes them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor

Batch = tuple[Tensor, Tensor | None]


class Batches(ABC):
    """Endless batches on the device; `next` is `advance` on the host, then `draw` on the device.

    `draw` reads and writes the same device memory every time, so that a CUDA graph can hold it; `advance` never waits.
    """

    def __init__(self) -> None:
        self.drawn = 0
        """Batches so far: the place in the order of the data, which `seek` goes back to."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self.advance()
        return self.draw()

    def seek(self, drawn: int) -> None:
        """Go to where the next batch is number `drawn`, counted from 0."""
        self._restart(drawn)
        self.drawn = drawn

    def advance(self) -> None:
        """Make the next batch the one that `draw` gives."""
        self._prepare()
        self.drawn += 1

    @abstractmethod
    def draw(self) -> Batch:
        """Return images float32 (N, C, H, W) in [-1, 1] and labels int64 (N,) or None; once for each `advance`."""

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _restart(self, drawn: int) -> None: ...
