"""Limits of D's weights."""

import torch
from torch import nn

from osgan.regularizers.base import Regularizer, check_positive, trainable


class WeightClipping(Regularizer):
    """Hold every weight of D within [-limit, limit] (WGAN: Arjovsky et al. 2017, algorithm 1)."""

    def __init__(self, limit: float = 0.01) -> None:
        check_positive("WeightClipping", "a limit", limit)
        self.limit = limit

    @torch.no_grad()
    def after_step(self, discriminator: nn.Module) -> None:
        """Clip the weights."""
        for parameter in trainable(discriminator):
            parameter.clamp_(-self.limit, self.limit)
