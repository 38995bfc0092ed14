"""Images decoded in other processes: how many are worth starting, and what they give in order."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch.utils.data
from torch import Tensor

from osgan.data.raw import Source
from osgan.errors import InputError

MAX_WORKERS = 8
# Below this many images a worker process takes longer to start than the images to decode.
MIN_IMAGES_PER_WORKER = 1000


def available_workers(source: Source) -> int:
    """Return how many processes are worth starting to decode a source; 0 decodes in this one."""
    if isinstance(source.images, Tensor):
        return 0
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # on this machine, each with workers of its own
    return min(max(1, num_cpus // processes), MAX_WORKERS, len(source.images) // MIN_IMAGES_PER_WORKER)


def load_in_order(
    decoded: torch.utils.data.Dataset[Any], chunks: Sequence[Sequence[int]], *, num_workers: int
) -> Iterator[Tensor]:
    """Give the images uint8 (N, C, H, W) of each chunk of indices, decoded in so many processes."""
    yield from (images for images, _ in loaded(decoded, chunks, num_workers=num_workers))


def loaded(
    decoded: torch.utils.data.Dataset[Any],
    index_lists: Iterable[Sequence[int]],
    *,
    num_workers: int,
    pin_memory: bool = False,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Give images uint8 (N, C, H, W) and labels int64 (N,) or None for each list of indices, in order.

    Raises InputError for a file that is damaged, as the process that reads it does.
    """
    # A generator of its own: otherwise the loader takes a number from torch's global one, and a run with a
    # resident and one with a streamed set would differ in their latents.
    loader = torch.utils.data.DataLoader(
        decoded,
        sampler=index_lists,
        batch_size=None,  # the sampler gives whole batches
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    try:
        yield from loader
    except InputError as error:  # a worker's comes with the text of its traceback before the message
        kind = f"\n{type(error).__module__}.{type(error).__qualname__}: "
        raise type(error)(str(error).rpartition(kind)[2].strip()) from error
