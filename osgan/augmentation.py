"""Augmentation in front of D, differentiable, so that G learns through it: DiffAugment (Zhao et al. 2020, section 3).

Real and generated images are augmented alike, for both players; images of [-1, 1] are assumed. The adaptive one is
`osgan.adaptive`. Deliberately not here: the augmentation of a data set, which G would learn to imitate.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from osgan import spec
from osgan.errors import InputError, unknown
from osgan.losses import AdversarialLoss, at_least_float32


class Drawn:
    """One draw of random numbers for N images: a function of N images, the same whenever it is called.

    `transform` maps images (N, S, C, H, W) and the numbers, tensors with N rows each, to images of that shape. Row i of
    what it returns may depend on row i of what it is given alone, else one-stage training is not exact; the S slices of
    a sample share its numbers. It must be twice differentiable in the images, for penalties.
    """

    def __init__(self, transform: Callable[..., Tensor], *numbers: Tensor) -> None:
        self.transform = transform
        self.numbers = numbers

    def __call__(self, images: Tensor) -> Tensor:
        """Augment images (N, C, H, W) or (N, S, C, H, W); returns the same shape, type and memory format.

        Computes in float32 or better. Raises InputError for another shape, or another N than was drawn for.
        """
        num_drawn, got = len(self.numbers[0]), tuple(images.shape)
        if images.ndim not in (4, 5):
            raise InputError(
                f"an augmentation is of images (N, C, H, W) or (N, S, C, H, W), but got {got}: leave it out"
            )
        if len(images) != num_drawn:
            raise InputError(
                f"the augmentation was drawn for {num_drawn} images, but got {got}: draw again, or take first(n) of it"
            )
        slices = images if images.ndim == 5 else images.unsqueeze(1)
        out = self.transform(at_least_float32(slices), *self.numbers).to(images.dtype)
        if images.ndim == 5:
            return out
        if images.is_contiguous(memory_format=torch.channels_last):  # gather makes plain ones of them
            return out.squeeze(1).contiguous(memory_format=torch.channels_last)
        return out.squeeze(1)

    def first(self, n: int) -> "Drawn":
        """Return the same draw for the first n images."""
        return Drawn(self.transform, *(numbers[:n] for numbers in self.numbers))


class Augmentation:
    """What a scheme asks of an augmentation; a subclass defines `draw`, and the rest if it has a state."""

    def draw(self, images: Tensor) -> Drawn:
        """Draw random numbers for len(images) images on their device, from torch's default generator.

        Reads no value of a tensor on the host, so that it can be captured in a CUDA graph.
        """
        raise NotImplementedError

    def observe(self, real_logits: Tensor, num_parts: int = 1) -> None:
        """Take notice of D's logits (N, ...) of augmented real images in an update of D; waits for nothing.

        It is called for each of the `num_parts` parts of a batch, on that part's logits.
        """

    def check_loss(self, loss: AdversarialLoss, *, paired: bool) -> None:
        """Raise InputError for a loss whose logits `observe` would misread; `paired` if G's loss reads the real ones.

        A scheme asks before its first step.
        """

    def tensors(self) -> list[Tensor]:
        """Return the state that a step changes, in place: for checkpoints."""
        return []

    def to(self, device: torch.device | str) -> None:
        """Move the state to a device: the tensors of `tensors` are others then."""


class DiffAugment(Augmentation):
    """DiffAugment (Zhao et al. 2020): colour, translation and cutout with fixed strength, applied to every image.

    `policy` has the parts in the order in which they are applied, a text such as "color,translation,cutout" or a
    sequence of the words:

    - `color`: `brightness` (plus -0.5 to 0.5), `saturation` (distance from the mean of the channels times 0 to 2; of
      one channel the identity), `contrast` (distance from the image's mean times 0.5 to 1.5); each is a word as well.
    - `translation`: by whole pixels, up to `translation_ratio` of height and width; zeros come in.
    - `cutout`: zeros in a rectangle of `cutout_ratio` of height and width, centred anywhere in the image.
    - `flip`: left and right change places with probability 1/2 (not in the paper).

    Raises InputError for a word that is unknown or stands twice, and for a ratio outside [0, 1].
    """

    def __init__(
        self,
        policy: str | Sequence[str] = "color,translation,cutout",
        *,
        translation_ratio: float = 0.125,
        cutout_ratio: float = 0.5,
    ) -> None:
        for what, ratio in (("translation_ratio", translation_ratio), ("cutout_ratio", cutout_ratio)):
            check_number("DiffAugment", what, ratio, 0, 1)
        self.translation_ratio = translation_ratio
        self.cutout_ratio = cutout_ratio
        self.policy = _words_of(policy)

    def __repr__(self) -> str:
        ratios = f"translation_ratio={self.translation_ratio}, cutout_ratio={self.cutout_ratio}"
        return f"DiffAugment({','.join(self.policy)!r}, {ratios})"

    def draw(self, images: Tensor) -> Drawn:
        """Draw anew for each image."""
        num_columns = sum(_NUM_NUMBERS[word] for word in self.policy)
        return Drawn(self._augmented, uniform(images, num_columns))

    def _augmented(self, images: Tensor, numbers: Tensor) -> Tensor:
        parts: dict[str, Callable[..., Tensor]] = {
            "brightness": _brightened,
            "saturation": _saturated,
            "contrast": _contrasted,
            "translation": partial(_translated, ratio=self.translation_ratio),
            "cutout": partial(_cut_out, ratio=self.cutout_ratio),
            "flip": _flipped,
        }
        first = 0
        for word in self.policy:
            last = first + _NUM_NUMBERS[word]
            images = parts[word](images, *numbers[:, first:last, None, None, None, None].unbind(1))
            first = last
        return images


_NUM_NUMBERS = {"brightness": 1, "saturation": 1, "contrast": 1, "translation": 2, "cutout": 2, "flip": 1}
_COLOR = ("brightness", "saturation", "contrast")


def _words_of(policy: str | Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a policy, `color` written out."""
    if not isinstance(policy, str | list | tuple):
        raise InputError(f"DiffAugment takes a policy such as 'color,translation,cutout', got {policy!r}")
    words: list[str] = []
    for word in policy.split(",") if isinstance(policy, str) else policy:
        word = word.strip() if isinstance(word, str) else word
        if word not in ("color", *_NUM_NUMBERS):
            raise unknown("part of DiffAugment's policy", word, ["color", *_NUM_NUMBERS])
        words += _COLOR if word == "color" else (word,)
    if twice := [word for word in words if words.count(word) > 1]:
        raise InputError(f"DiffAugment's policy {policy!r} has {twice[0]!r} twice: write each part once")
    return tuple(words)


def uniform(images: Tensor, num_columns: int) -> Tensor:
    """Draw numbers (N, num_columns) in [0, 1) for N images, in float32 or their float64."""
    dtype = at_least_float32(images.new_empty(0)).dtype
    return torch.rand(len(images), num_columns, device=images.device, dtype=dtype)


def check_number(whose: str, what: str, value: Any, low: float, high: float) -> None:
    """Raise InputError for what is no number from low to high, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{whose} needs {what} from {low:,} to {high:,}, got {value!r}")


# Below, images are (N, S, C, H, W), and every u is (N, 1, 1, 1, 1) in [0, 1).


def _brightened(images: Tensor, u: Tensor) -> Tensor:
    return images + (u - 0.5)


def _saturated(images: Tensor, u: Tensor) -> Tensor:
    if images.shape[-3] == 1:
        return images
    mean = images.mean(-3, keepdim=True)
    return mean + 2 * u * (images - mean)


def _contrasted(images: Tensor, u: Tensor) -> Tensor:
    mean = images.mean((-3, -2, -1), keepdim=True)
    return mean + (u + 0.5) * (images - mean)


def _flipped(images: Tensor, u: Tensor) -> Tensor:
    return torch.where(u < 0.5, images.flip(-1), images)


def _translated(images: Tensor, u_rows: Tensor, u_columns: Tensor, *, ratio: float) -> Tensor:
    height, width = images.shape[-2:]
    rows, row_is_there = _shifted(height, u_rows, ratio)
    columns, column_is_there = _shifted(width, u_columns, ratio)
    source = (rows[..., None] * width + columns[..., None, :]).flatten(-2)
    there = row_is_there[..., None] & column_is_there[..., None, :]
    moved = images.flatten(-2).gather(-1, source.expand(*images.shape[:3], -1)).unflatten(-1, (height, width))
    return moved.masked_fill(~there, 0)


def _shifted(size: int, u: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Return where each position along an axis comes from, (N, 1, 1, size), and whether it was in the image.

    Around the end rather than held at it: every position is then read once, so that the backward pass adds nothing up,
    and is the same each time on a GPU too.
    """
    furthest = int(size * ratio + 0.5)
    shift = (u.reshape(-1, 1, 1, 1) * (2 * furthest + 1)).floor().long() - furthest
    source = torch.arange(size, device=u.device) - shift
    return source.remainder(size), (source >= 0) & (source < size)


def _cut_out(images: Tensor, u_row: Tensor, u_column: Tensor, *, ratio: float) -> Tensor:
    height, width = images.shape[-2:]
    rows, columns = _hole(height, u_row, ratio), _hole(width, u_column, ratio)
    return images.masked_fill(rows[..., None] & columns[..., None, :], 0)


def _hole(size: int, u: Tensor, ratio: float) -> Tensor:
    """Return which positions along an axis are cut out, (N, 1, 1, size)."""
    length = int(size * ratio + 0.5)
    centres = size + 1 - length % 2  # of an even length the centre is between two pixels, or at an edge
    first = (u.reshape(-1, 1, 1, 1) * centres).floor().long() - length // 2
    position = torch.arange(size, device=u.device)
    return (position >= first) & (position < first + length)


def parse_augmentation(text: str, loss: AdversarialLoss | None = None) -> Augmentation | None:
    """Build the augmentation written `diffaugment+policy='color,translation'`, `ada+target=0.6`, or `none`: None.

    A name may also be the import path of a callable that returns an `Augmentation`. Raises InputError for a name or an
    option that does not exist, where the class does, and for a loss that it misreads.
    """
    from osgan.adaptive import ADA  # it is built on this module

    parsed = spec.parse(text)
    if parsed == spec.Spec("none"):
        return None
    builder = spec.resolve("augmentation", parsed.name, {"none": _none, "diffaugment": DiffAugment, "ada": ADA})
    built = spec.call("augmentation", parsed, builder)
    if not isinstance(built, Augmentation):
        raise InputError(f"augmentation {text!r} must be an osgan.Augmentation, but is {type(built).__name__}")
    if loss is not None:
        built.check_loss(loss, paired=loss.paired)
    return built


def _none() -> None:
    """Take no options."""
