"""Several processes train one model: what trainer and judge ask of torch.distributed: groups, seeds, rows, gathers.

Restarts are torchrun's. With one process everything here does nothing and waits for nobody. Deliberately not here: the
gradients (`osgan.parallel.ddp`), and networks that are split over devices.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from osgan.errors import InputError
from osgan.group import average, size

__all__ = [
    "average",
    "broadcast",
    "derived_seed",
    "gather_to_all",
    "gather_to_first",
    "launched",
    "local_rows",
    "local_size",
    "manual_seed",
    "process_group",
    "rank",
    "size",
]

GRACE_S = 5
"""How long a process that lost another waits to be ended, before it fails for that."""

LAUNCHED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and its like put into the environment of every process."""


def rank() -> int:
    """Return the number of this process among them, from 0; process 0 writes and is the one that is judged."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def local_rows(batch_size: int, n_critic: int = 1, num_parts: int = 1) -> range | list[int] | None:
    """Return which rows of a batch this process takes, all (None) where there is one process.

    `batch_size` is that of all processes together. With `n_critic` k the batch is k batches in one, and each of them
    is divided. Raises InputError for a batch size that is not a multiple of the number of processes, and where a
    process's share of it cannot be taken in `num_parts` equal parts.
    """
    if size() == 1:
        return None
    own, left = divmod(batch_size, size())
    if left:
        raise InputError(
            f"batch_size {batch_size} (--batch-size) is the whole batch and {size()} processes share it equally: "
            f"choose a multiple of {size()}"
        )
    if own % num_parts:
        raise InputError(
            f"batch_size {batch_size} (--batch-size) gives each of {size()} processes {own} images, which accumulate "
            f"{num_parts} takes in as many equal parts: choose a multiple of {size() * num_parts}"
        )
    first = rank() * own
    return [start + row for start in range(0, n_critic * batch_size, batch_size) for row in range(first, first + own)]


def manual_seed(seed: int, *numbers: int) -> None:
    """Seed torch on every device with a stream of this process's own; process 0 takes the seed itself."""
    torch.manual_seed(derived_seed(seed, *numbers, rank()))


def derived_seed(seed: int, *numbers: int) -> int:
    """Return a seed that follows from the seed and the numbers: where these are all 0, the seed itself."""
    if not any(numbers):
        return seed
    return int.from_bytes(hashlib.sha256(repr((seed, *numbers)).encode()).digest()[:7])


def gather_to_all(value: Any) -> list[Any]:
    """Return what every process gave, by rank; for small things that can be pickled."""
    values: list[Any] = [value] * size()
    if size() > 1:
        dist.all_gather_object(values, value)
    return values


def gather_to_first(value: Any) -> list[Any]:
    """Return what every process gave, by rank, on process 0, and on the others nothing."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size() if rank() == 0 else []
    dist.gather_object(value, values or None)
    return values


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the tensors of process 0 into those of all others, in place."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def launched() -> bool:
    """Whether this process was started by torchrun, or its like, as one of several."""
    return all(name in os.environ for name in LAUNCHED_BY) and int(os.environ["WORLD_SIZE"]) > 1


def local_size() -> int:
    """Return how many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if launched() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started and yield this one's device: its own GPU, or its share of the cores.

    Does nothing where there is one process. Raises InputError for a device that cannot be every process's own.
    """
    if not launched():
        yield device
        return
    if device.type == "cuda":
        local_rank, num_gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if device.index is not None:
            raise InputError(f"device {str(device)!r}: each of several processes takes a GPU of its own; use cuda")
        if local_rank >= num_gpus:
            raise InputError(f"{local_size()} processes on this machine, but PyTorch sees {num_gpus} GPUs: start fewer")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        _join("cpu:gloo,cuda:nccl", device_id=device)
    else:
        if "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it to 1
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_size()))
        _join("gloo")
    try:
        yield device
    except RuntimeError as error:
        if "by peer" in str(error):  # another process died: torchrun, which ends this one, shall name that one's cause
            time.sleep(GRACE_S)
        raise
    dist.barrier()  # process 0 may still be writing; not after an error: it would wait for processes that are gone
    dist.destroy_process_group()


def _join(backend: str, **options: Any) -> None:
    store, own, number = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(_agree(store, own, number), store)
    dist.init_process_group(backend, store=store, rank=own, world_size=number, **options)


def _agree(store: dist.Store, own: int, number: int) -> str:
    """Return a word that process 0 makes up and tells all that are alive.

    Under it the store is empty. torchrun keeps the store over a restart, where the addresses of the processes that died
    still stand (PyTorch 2.15 hangs), and its count of restarts differs between machines.
    """
    word = uuid.uuid4().hex
    if own != 0:
        store.set(f"osgan/hello/{own}", word)
        given = store.get(f"osgan/reply/{word}").decode()
        store.set(f"osgan/heard/{given}/{own}", "")
        return given
    silent = set(range(1, number))
    while silent:  # what a process said before it died is answered too, and nobody hears it
        for other in silent:
            store.set(f"osgan/reply/{store.get(f'osgan/hello/{other}').decode()}", word)
        silent = {other for other in silent if not store.check([f"osgan/heard/{word}/{other}"])}
        time.sleep(0.01)
    return word
