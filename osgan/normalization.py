"""Gradient normalisation at the image (Adversarial Flow Models: arXiv 2511.22475): D's loss scale no longer moves G.

What arrives at the generated images from D is divided by a moving average of its norm, before it goes on through G. In
one stage, where it arrives times the ratio, this is the same division.
"""

import torch
from torch import Tensor

from osgan import group
from osgan.errors import InputError
from osgan.limits import check_real
from osgan.regularizers.base import check_positive


class GradientNormalization:
    """A factor on what arrives at the images: scale / (sqrt(average of numel * |gradient|^2) + eps).

    The average starts at 0 and moves by 1 - `decay` a pass. It is a tensor on the device, and nothing waits for it. Of
    several processes each has its own gradient divided by the root of the mean of all. Also a `weight` of
    `osgan.backward`, for a loop of your own. Raises InputError for a decay outside of [0, 1) or a scale that is not
    above 0.
    """

    def __init__(self, decay: float = 0.9, scale: float = 1.0, *, eps: float = 1e-8) -> None:
        check_real("GradientNormalization: decay", decay, lambda value: 0 <= value < 1, "from 0 up to 1, 1 left out")
        check_positive("GradientNormalization", "a scale", scale)
        check_positive("GradientNormalization", "an eps", eps)
        self.decay = decay
        self.scale = scale
        self.eps = eps
        self.average = torch.zeros(())

    def to(self, device: torch.device) -> None:
        """Bring the average to a device."""
        self.average = self.average.to(device)

    def tensors(self) -> list[Tensor]:
        """Return what a pass changes, in place."""
        return [self.average]

    @torch.no_grad()
    def __call__(self, *arrived: Tensor) -> Tensor:
        """Take the gradients that arrived at the images into the average and return the factor for them, a scalar."""
        if not arrived:
            raise InputError("GradientNormalization was given no gradient")
        if self.average.device != arrived[0].device:
            self.to(arrived[0].device)
        total = torch.stack([gradient.square().sum().float() for gradient in arrived]).sum()
        total = group.average(total * sum(gradient.numel() for gradient in arrived))
        self.average.lerp_(total, 1 - self.decay)
        return self.scale / (self.average.sqrt() + self.eps)
