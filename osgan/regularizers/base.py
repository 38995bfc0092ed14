"""What a scheme asks of a regularizer, and what of D it gives.

Lazy regularization (StyleGAN2: Karras et al. 2020, section 3.1): a penalty of interval k takes part in every k-th step,
from the first on, with k times its weight, so that its mean over a period is that of the penalty at every step.
StyleGAN2's adjustment of Adam's rates and betas by k / (k + 1) is not made here: that is the user's optimizer.
"""

import math
from typing import Any

from torch import Tensor, nn

from osgan.errors import InputError
from osgan.structure import Structure


class Regularizer:
    """A regularizer of either player; all methods do nothing here."""

    every = 1
    """Steps from one application to the next (lazy regularization)."""
    scale: float | Tensor = 1.0
    """Factor on a penalty's weight, which a schedule moves (`osgan.Recipe.penalty_schedule`)."""
    at_fake = False
    """Whether D is penalised at the generated images, and sees them through their draw of an augmentation."""

    def accumulate(self, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Add the penalty's gradient to `.grad` of D's weights; `real` and `fake` (N, C, H, W) carry no graph."""

    def of_generator(self, fake: Tensor) -> Tensor | None:
        """Return what G minimises beside its loss, a scalar of the generated images, past D; None for nothing."""

    def check(self, discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Raise InputError if D, here a copy, cannot be regularized so on images like `real` (N, C, H, W)."""

    def refuse(self, structure: Structure) -> None:
        """Raise InputError if a D that scores a batch like this cannot be regularized so."""

    def after_step(self, discriminator: nn.Module) -> None:
        """Change D's weights in place after its optimizer's step."""


def check_positive(whose: str, what: str, value: Any) -> None:
    """Raise InputError unless the value is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{whose} needs {what} above 0, got {value!r}")


def check_interval(whose: str, every: Any) -> None:
    """Raise InputError unless it is a whole number of steps, 1 or more."""
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InputError(f"{whose} needs an interval of 1 step or more, got {every!r}")


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights that want a gradient."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
