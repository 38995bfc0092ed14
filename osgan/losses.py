"""Adversarial losses as pairs of per-sample functions of logits (sections 2 and 3.1 of the OSGAN paper).

A loss here knows logits and nothing else: no network, no image, no reduction but the mean that a scheme takes.
Both players minimise. Everything one-stage training needs is a derivative with respect to a logit.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid, relu

from osgan.errors import unknown

PerSample = Callable[[Tensor, Tensor], Tensor]


class LogitGradients(NamedTuple):
    """Per-sample derivatives with respect to the logits, each of the logits' shape."""

    real: Tensor
    """dL_D/d(real logit)"""
    fake: Tensor
    """dL_D/d(fake logit), what one-stage training carries through D"""
    generator: Tensor
    """dL_G/d(fake logit)"""


class AdversarialLoss:
    """A pair of per-sample losses of the real and the fake logits.

    `discriminator` and `generator` map (real, fake), two tensors of one shape, to the losses of the same shape. A loss
    may compare a logit with those of the whole batch (`ragan`): what counts is the derivative of the mean at every
    logit. `symmetric` says that dL_G/d(fake) = -dL_D/d(fake) for every logit. `paired` says that the generator's loss
    reads the real logits. `derivatives` gives the three derivatives in closed form; without it they come from autograd,
    on the logits alone.
    """

    def __init__(
        self,
        name: str,
        discriminator: PerSample,
        generator: PerSample,
        *,
        symmetric: bool = False,
        paired: bool = False,
        derivatives: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None,
    ) -> None:
        self.name = name
        self.discriminator = discriminator
        self.generator = generator
        self.symmetric = symmetric
        self.paired = paired
        self.derivatives = derivatives

    def __repr__(self) -> str:
        return f"AdversarialLoss({self.name!r})"

    def gradients(self, real: Tensor, fake: Tensor) -> LogitGradients:
        """Differentiate the sums of both losses at every logit; the result is finite for every finite logit."""
        real, fake = real.detach(), fake.detach()
        if self.derivatives is not None:
            return LogitGradients(*self.derivatives(real, fake))
        with torch.enable_grad():
            real, fake = real.requires_grad_(), fake.requires_grad_()
            of_real, of_fake = torch.autograd.grad(
                self.discriminator(real, fake).sum(), (real, fake), materialize_grads=True
            )
            (of_g,) = torch.autograd.grad(self.generator(real, fake).sum(), (fake,), materialize_grads=True)
        return LogitGradients(of_real, of_fake, of_g)


def _softplus(x: Tensor) -> Tensor:
    return -logsigmoid(-x)  # torch's softplus turns linear at 20, which is wrong by 2e-9 there


MINIMAX = AdversarialLoss(
    "minimax",  # log(1 - D) for G: Goodfellow et al. 2014, equation 1
    lambda real, fake: _softplus(-real) + _softplus(fake),
    lambda real, fake: -_softplus(fake),
    symmetric=True,
    derivatives=lambda real, fake: (-sigmoid(-real), sigmoid(fake), -sigmoid(fake)),
)

NONSATURATING = AdversarialLoss(
    "nonsaturating",  # -log D for G: Goodfellow et al. 2014, section 3
    lambda real, fake: _softplus(-real) + _softplus(fake),
    lambda real, fake: _softplus(-fake),
    derivatives=lambda real, fake: (-sigmoid(-real), sigmoid(fake), -sigmoid(-fake)),
)

LSGAN = AdversarialLoss(
    "lsgan",  # least squares with targets 0, 1 and 1: Mao et al. 2017, equation 9
    lambda real, fake: ((real - 1).square() + fake.square()) / 2,
    lambda real, fake: (fake - 1).square() / 2,
    derivatives=lambda real, fake: (real - 1, fake, fake - 1),
)

HINGE = AdversarialLoss(
    "hinge",  # Miyato et al. 2018, equations 16 and 17
    lambda real, fake: relu(1 - real) + relu(1 + fake),
    lambda real, fake: -fake,
    derivatives=lambda real, fake: (
        -(real < 1).to(real.dtype),
        (fake > -1).to(fake.dtype),
        -torch.ones_like(fake),
    ),
)

WGAN = AdversarialLoss(
    "wgan",  # Arjovsky et al. 2017; keep D Lipschitz with a regularizer
    lambda real, fake: fake - real,
    lambda real, fake: -fake,
    symmetric=True,
    derivatives=lambda real, fake: (-torch.ones_like(real), torch.ones_like(fake), -torch.ones_like(fake)),
)

RPGAN = AdversarialLoss(
    "rpgan",  # relativistic pairing: Jolicoeur-Martineau 2018; Huang et al. 2024 (R3GAN), equation 2
    lambda real, fake: _softplus(fake - real),
    lambda real, fake: _softplus(real - fake),
    paired=True,
    derivatives=lambda real, fake: (-sigmoid(fake - real), sigmoid(fake - real), -sigmoid(real - fake)),
)


def _mean(x: Tensor) -> Tensor:
    return (x / x.numel()).sum()  # the sum of finite logits may overflow, their mean does not


RAGAN = AdversarialLoss(
    "ragan",  # relativistic average: Jolicoeur-Martineau 2018, equations 11 and 12
    lambda real, fake: _softplus(_mean(fake) - real) + _softplus(fake - _mean(real)),
    lambda real, fake: _softplus(_mean(real) - fake) + _softplus(real - _mean(fake)),
    paired=True,
    derivatives=lambda real, fake: (
        -sigmoid(_mean(fake) - real) - sigmoid(fake - _mean(real)).mean(),
        sigmoid(fake - _mean(real)) + sigmoid(_mean(fake) - real).mean(),
        -sigmoid(_mean(real) - fake) - sigmoid(real - _mean(fake)).mean(),
    ),
)

LOSSES: dict[str, AdversarialLoss] = {
    loss.name: loss for loss in (MINIMAX, NONSATURATING, LSGAN, HINGE, WGAN, RPGAN, RAGAN)
}
"""By name, what `as_loss` returns."""


def as_loss(loss: str | AdversarialLoss) -> AdversarialLoss:
    """Return the loss of that name, or the loss itself; raises InputError for an unknown name."""
    if isinstance(loss, AdversarialLoss):
        return loss
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    return LOSSES[loss]


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or in float64 if that is what it is in."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
