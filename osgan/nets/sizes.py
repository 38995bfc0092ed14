"""What families share about sizes: the checks, whose messages name the family, the value and the remedy; a pyramid."""

from collections.abc import Iterable

from osgan.errors import InputError


def check_counts(family: str, **counts: object) -> None:
    """Raise InputError unless each value is a whole number above 0."""
    for name, value in counts.items():
        if not _is_count(value):
            raise InputError(f"{family}: {name} must be a whole number above 0, got {value!r}")


def check_choice(family: str, name: str, value: object, choices: Iterable[object]) -> None:
    """Raise InputError unless the value is one of the choices."""
    if value not in (accepted := list(choices)):
        raise InputError(f"{family}: {name} must be one of {', '.join(map(str, accepted))}, got {value!r}")


def check_power_of_two(family: str, resolution: object, *, smallest: int) -> None:
    """Raise InputError unless the resolution is a power of two from `smallest` up."""
    if not isinstance(resolution, int) or resolution < smallest or resolution & (resolution - 1):
        raise InputError(f"{family}: resolution must be a power of two from {smallest} up, got {resolution!r}")


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


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
