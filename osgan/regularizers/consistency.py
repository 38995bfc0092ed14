"""What a G of several scales minimises past D: its images of one sample are to agree (CAT: arXiv 2605.26449)."""

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

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
    """Return the mean squared difference of images (N, S, C, H, W), all but the last, from the last, a scalar."""
    *earlier, last = images.unbind(1)
    target = last.detach()
    terms = []
    for place, image in enumerate(earlier):
        size = max(1, image.shape[-1] >> (len(earlier) - place))
        terms.append((adaptive_avg_pool2d(image, size) - adaptive_avg_pool2d(target, size)).square().mean())
    return sum(terms, start=images.new_zeros(())) / max(1, len(terms))
