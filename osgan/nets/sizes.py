"""What families share about sizes: the checks, whose messages name the family, the value and the remedy; a pyramid."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from osgan.errors import InputError
from osgan.memory import free_bytes

MAX_COUNT = 2**20
"""Of a width, channels or latents."""
MAX_DEPTH = 256
"""Of what is a number of layers: building more of them takes minutes before their weights are too many."""
MAX_RESOLUTION = 4096
MAX_TENSORS = 10_000
"""Weights and biases of both networks together."""
MAX_WEIGHTS = 10**10
"""Numbers in them, 40 GB in float32; where they are really made they have to fit into this machine's memory too."""


def check_counts(family: str, **counts: object) -> None:
    """Raise InputError unless each value is a whole number above 0."""
    for name, value in counts.items():
        if not is_count(value):
            raise InputError(f"{family}: {name} must be a whole number above 0, got {value!r}")
        most = MAX_DEPTH if name in ("depth", "blocks", "mapping_layers") else MAX_COUNT
        if value > most:
            raise InputError(f"{family}: {name} must be at most {most:,}, got {value:,}")


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Refuse networks that are too large while they are built, before the weight that is too much is filled.

    Raises InputError, which says what was built, beyond MAX_TENSORS, MAX_WEIGHTS and the memory that is free.
    """
    available_bytes = free_bytes(torch.device("cpu"))
    tensors = weights = real_bytes = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, weights, real_bytes
        if parameter is None or nn.parameter.is_lazy(parameter):
            return
        tensors += 1
        weights += parameter.numel()
        real_bytes += parameter.nbytes if parameter.device.type == "cpu" else 0
        if tensors > MAX_TENSORS:
            raise InputError(f"{what} is too deep: more than {MAX_TENSORS:,} tensors of weights")
        if weights > MAX_WEIGHTS:
            raise InputError(f"{what} is too large: {weights:,} weights and more, at most {MAX_WEIGHTS:,} can be")
        if real_bytes > available_bytes:
            raise InputError(
                f"{what} is too large for this machine: its weights need {real_bytes / 2**30:,.1f} GiB and more, and "
                f"{available_bytes / 2**30:,.1f} GiB of memory are free"
            )

    registration = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        registration.remove()


def check_choice(family: str, name: str, value: object, choices: Iterable[object]) -> None:
    """Raise InputError unless the value is one of the choices."""
    if value not in (accepted := list(choices)):
        raise InputError(f"{family}: {name} must be one of {', '.join(map(str, accepted))}, got {value!r}")


def check_power_of_two(family: str, resolution: object, *, smallest: int) -> None:
    """Raise InputError unless the resolution is a power of two from `smallest` up."""
    if not isinstance(resolution, int) or resolution < smallest or resolution & (resolution - 1):
        raise InputError(f"{family}: resolution must be a power of two from {smallest} up, got {resolution!r}")
    check_resolution(family, resolution)


def check_resolution(what: str, resolution: int) -> None:
    """Raise InputError for an image size that no memory holds a batch of."""
    if resolution > MAX_RESOLUTION:
        raise InputError(f"{what}: resolution must be at most {MAX_RESOLUTION:,} pixels, got {resolution:,}")


def check_multiple(family: str, name: str, value: int, of: int) -> None:
    """Raise InputError, with the nearest value that is, unless the value is a multiple of `of`."""
    if value % of:
        nearest = max(of, round(value / of) * of)
        raise InputError(f"{family}: {name} must be a multiple of {of}, got {value!r}; the nearest is {nearest}")


def check_classes(family: str, num_classes: int | None, *, without_labels: str) -> int:
    """Return the number of classes to be conditional on; raises InputError if there are none."""
    if num_classes is None:
        raise InputError(
            f"{family} is conditional and the data set has no labels (num_classes is None); use {without_labels}, "
            "or a data set with labels"
        )
    check_counts(family, num_classes=num_classes)
    return num_classes


def pyramid(resolution: int, width: int) -> list[int]:
    """Return the channels of every stage from 4x4 on: `width` up to 32x32, half as many with every doubling beyond."""
    sizes = [2**power for power in range(2, resolution.bit_length())]
    return [width // max(1, size // 32) for size in sizes]


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
