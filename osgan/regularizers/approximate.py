"""Approximate R1 and R2: D's input gradient by a finite difference of its logits; nothing is differentiated twice.

AR1 is gamma / 2 * |(D(x) - D(x + sigma n)) / sigma|^2 at real images, AR2 the same at generated ones, n standard
normal: its mean over n tends to gamma / 2 * |grad D|^2 as sigma goes to 0 (Seaweed-APT: Lin et al. 2025, arXiv
2501.08316, section 3.4; Adversarial Flow Models: arXiv 2511.22475). It is a function of logits: the moved images join
the batch that goes through D anyway, and the penalty is one more term of the derivative at each (`osgan.scoring`).
"""

import torch
from torch import Tensor, nn

from osgan.errors import InputError
from osgan.losses import at_least_float32
from osgan.regularizers.base import Regularizer, check_interval, check_positive
from osgan.structure import Structure


class ApproximatePenalty(Regularizer):
    """A penalty that rides along in the pass of the loss.

    Args:
        gamma: Its weight, that of the exact penalty. An implementation that writes lambda * |D(x) - D(x + sigma n)|^2
            has gamma = 2 * lambda * sigma^2.
        every: Steps from one application to the next, each so many times as strong.
        sigma: Standard deviation of the noise, in units of the images.
        share: Of the batch, its first images, that the penalty is taken at; above 0, at most 1.
    """

    def __init__(self, gamma: float, every: int = 1, *, sigma: float = 0.01, share: float = 1.0) -> None:
        name = type(self).__name__
        check_positive(name, "a weight", gamma)
        check_interval(name, every)
        check_positive(name, "a sigma", sigma)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise InputError(f"{name} needs a share of the batch above 0 and at most 1, got {share!r}")
        self.weight = gamma
        self.every = every
        self.sigma = sigma
        self.share = share
        self._in_one_batch = True

    def refuse(self, structure: Structure) -> None:
        """Raise InputError for a share of the batch under a D whose scores depend on the batch."""
        self._in_one_batch = structure.can_share_a_batch
        if self.share < 1 and not structure.can_share_a_batch:
            raise InputError(
                f"{type(self).__name__} with share={self.share:g} compares scores of the whole batch with those of a "
                "part of it, and the discriminator mixes the images of a batch (BatchNorm, minibatch-stddev): use "
                "share=1, or GroupNorm or no norm in D"
            )

    @torch.no_grad()
    def check(self, discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Raise InputError for a D whose score of one and the same image moves about as much as by the noise."""
        scores = [
            self._pair(discriminator, real, other, labels)
            for other in (real, real + self.sigma * torch.randn_like(real))
        ]
        by_itself, by_noise = ((here - there).norm() for here, there in scores)
        rounding = 100 * torch.finfo(real.dtype).eps * scores[0][0].norm()
        if by_itself > max(0.1 * by_noise, rounding):
            raise InputError(
                f"{type(self).__name__} takes the difference of a score with and without noise for a derivative, but "
                f"the discriminator's score of the same image moves by itself, {by_itself:.2g} beside {by_noise:.2g} "
                f"with noise of sigma={self.sigma:g} (dropout, noise layers, spectral norm between two calls): use the "
                f"exact penalty {type(self).__name__[1:]}, or leave these layers out of D"
            )

    def _pair(self, D: nn.Module, images: Tensor, others: Tensor, labels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        if self._in_one_batch:
            here, there = D(torch.cat([images, others]), *(torch.cat([y, y]) for y in labels)).chunk(2)
        else:
            here, there = D(images, *labels), D(others, *labels)
        return at_least_float32(here), at_least_float32(there)

    def num_moved(self, num_images: int) -> int:
        """Return how many images of a batch are moved, at least one."""
        return max(1, round(self.share * num_images))

    def moved(self, images: Tensor) -> Tensor:
        """Return the first images (N, ...) with noise, (num_moved(N), ...), in float32 or better; without a graph."""
        chosen = at_least_float32(images.detach()[: self.num_moved(len(images))])
        return chosen + self.sigma * torch.randn_like(chosen)

    def value(self, here: Tensor, there: Tensor, num_moved: int) -> Tensor:
        """Return the penalty, a scalar, of the logits of the images and of the moved ones: summed over an image's."""
        difference = (here - there) / self.sigma
        return self.scale * (self.every * self.weight / 2) * difference.square().sum() / num_moved

    def derivative(self, here: Tensor, there: Tensor, num_moved: int) -> Tensor:
        """Return the derivative of `value` at `here`, of its shape; that at `there` is the opposite."""
        factor = self.every * self.weight / (self.sigma**2 * num_moved)
        return self.scale * factor * (here - there)


class AR1(ApproximatePenalty):
    """gamma / 2 * |(D(x) - D(x + sigma n)) / sigma|^2 at real images."""


class AR2(ApproximatePenalty):
    """gamma / 2 * |(D(x) - D(x + sigma n)) / sigma|^2 at generated images."""

    at_fake = True
