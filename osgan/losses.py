"""Adversarial losses as pairs of functions of logits (sections 2 and 3.1 of the OSGAN paper).

A loss here knows logits and nothing else: no network, no image. Both players minimise. Everything one-stage training
needs is a derivative with respect to a logit.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid, relu

from osgan.errors import InputError, cause_of, unknown

LossFunction = Callable[[Tensor, Tensor], Tensor]


class LogitGradients(NamedTuple):
    """Per-sample derivatives with respect to the logits, each of the logits' shape."""

    real: Tensor
    """dL_D/d(real logit)"""
    fake: Tensor
    """dL_D/d(fake logit), what one-stage training carries through D"""
    generator: Tensor
    """dL_G/d(fake logit)"""


class LossStructure(NamedTuple):
    """What the schemes must know of a loss."""

    constant_ratio: float | None
    """dL_G/ds over dL_D/ds where that is one number for every fake logit, -1 of a symmetric loss; else None."""
    paired: bool
    """Whether the generator's loss reads the real logits."""
    objection: str | None = None
    """What the loss says of itself and is not so."""


class AdversarialLoss:
    """A pair of losses of the real and the fake logits.

    `discriminator` and `generator` map (real, fake), two tensors of one shape, to the losses of the same shape, whose
    mean is what the player minimises, or to a scalar, which is then minimised as it stands (`nn.BCEWithLogitsLoss()`,
    a sum). A loss may compare a logit with those of the whole batch (`ragan`): what counts is the derivative of what
    is minimised at every logit. `symmetric` says that dL_G/d(fake) = -dL_D/d(fake) for every logit, `paired` that the
    generator's loss reads the real logits; both are measured before the first step (`measure_loss`), so that they need
    not be given. `derivatives` gives the three derivatives of the losses per sample in closed form; without it they
    come from autograd, on the logits alone.
    """

    def __init__(
        self,
        name: str,
        discriminator: LossFunction,
        generator: LossFunction,
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

    @property
    def claimed(self) -> LossStructure:
        """What the loss says of itself."""
        return LossStructure(-1.0 if self.symmetric else None, self.paired)

    def __repr__(self) -> str:
        return f"AdversarialLoss({self.name!r})"

    def means(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return what D and G minimise, scalars."""
        return self.discriminator(real, fake).mean(), self.generator(real, fake).mean()

    def gradients(self, real: Tensor, fake: Tensor) -> LogitGradients:
        """Return the derivatives of N times what is minimised at each of the N logits; finite for every finite logit.

        Raises InputError for a loss that is neither of the logits' shape nor a scalar.
        """
        real, fake = real.detach(), fake.detach()
        if self.derivatives is not None:
            return LogitGradients(*self.derivatives(real, fake))
        return self.differentiated(real, fake)

    def differentiated(self, real: Tensor, fake: Tensor) -> LogitGradients:
        """Return `gradients` from autograd, whatever `derivatives` says."""
        with torch.enable_grad():
            real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
            of_real, of_fake = _gradient(self._total("discriminator", real, fake), (real, fake))
            (of_g,) = _gradient(self._total("generator", real, fake), (fake,))
        return LogitGradients(of_real, of_fake, of_g)

    def _total(self, player: str, real: Tensor, fake: Tensor) -> Tensor:
        """Return N times what the player minimises."""
        loss = getattr(self, player)(real, fake)
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return loss.sum() * fake.numel()
        if isinstance(loss, Tensor) and loss.shape == fake.shape:
            return loss.sum()
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(
            f"the {player}'s part of the loss {self.name!r} must be a loss for each logit, of shape "
            f"{tuple(fake.shape)}, or a scalar; got {found}"
        )


def _gradient(loss: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not loss.requires_grad:  # a loss that reads none of them
        return tuple(torch.zeros_like(x) for x in inputs)
    return torch.autograd.grad(loss, inputs, materialize_grads=True)


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


MEASURED_LOGITS = 512
WIDEST = 20.0


def measure_loss(loss: AdversarialLoss, like: Tensor, *, squashed: bool = False) -> LossStructure:
    """Find out on logits of the shape, type and device of `like` (N,) what the schemes must know of a loss.

    The logits reach from -20 to 20, densest about 0, or, `squashed`, from 0 to 1. The library's own losses are known.
    A false claim of symmetry is objected to, and `derivatives` that are not the functions'. Raises InputError for a
    loss that fails.
    """
    if LOSSES.get(loss.name) is loss:
        return loss.claimed
    like = at_least_float32(like.detach())
    tolerance = 1e-9 if like.dtype == torch.float64 else 1e-4
    found: list[LogitGradients] = []
    paired, objection = False, None
    with torch.random.fork_rng([like.device] if like.device.type == "cuda" else []):
        torch.manual_seed(0)
        for _ in range(min(64, -(-MEASURED_LOGITS // like.numel()))):
            real, fake, other = (_spread(like, squashed) for _ in range(3))
            found.append(_tried(loss, real, fake))
            paired = paired or not _equal(found[-1].generator, _tried(loss, other, fake).generator)
            objection = objection or _wrong_derivative(loss, real, fake, found[-1])
    carrier, generator = (torch.cat([getattr(g, key) for g in found]) for key in ("fake", "generator"))
    ratio = _constant_ratio(carrier, generator, tolerance)
    if loss.symmetric and (ratio is None or abs(ratio + 1) > tolerance):
        objection = (
            f"the loss {loss.name!r} says that it is symmetric, but dL_G/ds is not -dL_D/ds at every logit: leave out "
            "symmetric=True"
        )
    return LossStructure(ratio, paired, objection)


def _spread(like: Tensor, squashed: bool) -> Tensor:
    uniform = torch.rand_like(like)
    return 0.01 + 0.98 * uniform if squashed else WIDEST * (2 * uniform - 1) ** 3


def _tried(loss: AdversarialLoss, real: Tensor, fake: Tensor) -> LogitGradients:
    try:
        return loss.differentiated(real, fake)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the loss {loss.name!r} fails on {fake.numel()} logits: {cause_of(error)}") from None


def _wrong_derivative(loss: AdversarialLoss, real: Tensor, fake: Tensor, own: LogitGradients) -> str | None:
    """Say which derivative in closed form is not that of the loss's functions."""
    if loss.derivatives is None:
        return None
    moderate = (real.abs() < 8) & (fake.abs() < 8)  # where autograd of a careless formula is still right
    for name, closed, expected in zip(LogitGradients._fields, loss.gradients(real, fake), own, strict=True):
        difference = (closed - expected)[moderate & expected.isfinite()].abs()
        if difference.numel() and difference.max() > 1e-3 * expected[expected.isfinite()].abs().max():
            return (
                f"the derivative `{name}` that the loss {loss.name!r} gives in closed form is not that of its "
                f"functions: they differ by up to {difference.max().item():.2g}; mend it, or leave out derivatives="
            )
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _constant_ratio(carrier: Tensor, generator: Tensor, tolerance: float) -> float | None:
    finite = carrier.isfinite() & generator.isfinite()
    carrier, generator = carrier[finite].double(), generator[finite].double()
    if not carrier.any() or not generator.any():
        return None
    ratio = ((generator * carrier).sum() / carrier.square().sum()).item()
    allowed = tolerance * (generator.abs() + 1e-3 * generator.abs().max())
    if bool(((generator - ratio * carrier).abs() > allowed).any()):
        return None
    written = float(f"{ratio:.5g}")  # -0.25 and not -0.24999999
    return written if abs(written - ratio) <= tolerance * 1e-2 * abs(ratio) else ratio
