"""What a G of several scales minimises past D: its images of one sample are to agree (CAT: arXiv 2605.26449)."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from osgan.errors import InputError
from osgan.regularizers.base import Regularizer, check_positive


class Consistency(Regularizer):
    """weight * mean squared difference of every intermediate image of G and the final one, where they lie.

    Each is compared at the resolution at which D judges it: half of that of the next, the last at full resolution.
    The final image is the target and gets no gradient.
    """

    def __init__(self, weight: float = 1.0) -> None:
        check_positive("Consistency", "a weight", weight)
        self.weight = weight

    def of_generator(self, fake: Tensor) -> Tensor | None:
        """Return the loss of images (N, S, C, H, W); raises InputError for a G that makes one image a sample."""
        if fake.ndim != 5:
            raise InputError(
                f"Consistency compares the images that G makes of one sample, (N, scales, C, H, W), but it makes "
                f"{tuple(fake.shape)}: use a family of several scales such as cat32, or leave it out"
            )
        return self.weight * consistency(fake)


def consistency(images: Tensor) -> Tensor:
    """Return the mean squared difference of images (N, S, C, H, W), all but the last, from the last, a scalar.

    Each is averaged down to the resolution of its scale first. Raises InputError for a single scale.
    """
    *drafts, last = images.unbind(1)
    if not drafts:
        raise InputError("consistency needs images of two scales or more (N, S, C, H, W), got one scale")
    target = last.detach()
    pairs = zip(drafts, shrinkages(images.shape[1])[:-1], strict=True)
    return torch.stack([shrunk(draft - target, factor).square().mean() for draft, factor in pairs]).mean()


def shrinkages(scales: int) -> list[int]:
    """Return by what each scale's images are shrunk: the last by 1, each one before it by twice as much."""
    return [2 ** (scales - 1 - scale) for scale in range(scales)]


def shrunk(images: Tensor, factor: int) -> Tensor:
    """Average images (N, C, H, W) over squares of that many pixels."""
    return images if factor == 1 else avg_pool2d(images, factor)
