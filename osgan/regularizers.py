"""Regularizers of the discriminator: penalties on its input gradient, and weight clipping.

A penalty adds its own gradient to D's weights, in a pass of its own, on images that carry no graph to G. So it composes
with every scheme, and one-stage's carrier is not touched by it.

Lazy regularization (StyleGAN2: Karras et al. 2020, section 3.1): a penalty of interval k takes part in every k-th step,
from the first on, with k times its weight, so that its mean over a period is that of the penalty at every step.
StyleGAN2's adjustment of Adam's rates and betas by k / (k + 1) is not made here: that is the user's optimizer.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from osgan import spec
from osgan.errors import InputError, cause_of, unknown
from osgan.losses import at_least_float32


def _check_above_0(whose: str, what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{whose} needs {what} above 0, got {value!r}")


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Go through what has second derivatives: attention's plain formula, and D uncompiled.

    Backward too, where activation checkpointing goes forward once more and must meet the same operators.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
        yield


class Regularizer:
    """What a scheme asks of a regularizer; all methods do nothing here."""

    every = 1
    """Steps from one application to the next (lazy regularization)."""

    def accumulate(self, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Add the penalty's gradient to `.grad` of D's weights; `real` and `fake` (N, C, H, W) carry no graph."""

    def check(self, discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Raise InputError if D, here a copy, cannot be regularized so on images like `real` (N, C, H, W)."""

    def after_step(self, discriminator: nn.Module) -> None:
        """Change D's weights in place after its optimizer's step."""


class _InputGradientPenalty(Regularizer):
    def __init__(self, weight: float, every: int = 1) -> None:
        _check_above_0(type(self).__name__, "a weight", weight)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError(f"{type(self).__name__} needs an interval of 1 step or more, got {every!r}")
        self.weight = weight
        self.every = every

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the images at which D's gradient is penalised."""
        raise NotImplementedError

    def penalty(self, norm_squared: Tensor) -> Tensor:
        """Return the penalty of each image from the squared norm (N,) of D's gradient there."""
        return norm_squared / 2

    def accumulate(self, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> None:
        # With inputs= no gradient is computed for the images, and a layer that has no second derivative is passed over.
        with _twice_differentiable():
            self._weighted(discriminator, real, fake, labels).backward(inputs=list(_trainable(discriminator)))

    def check(self, discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...]) -> None:
        try:
            with _twice_differentiable():
                self._weighted(discriminator, real, real.flip(-1), labels).backward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(
                f"{type(self).__name__} differentiates the discriminator twice, and a layer of it cannot be: "
                f"{cause_of(error)}; put an implementation in its place that has second derivatives (plain PyTorch "
                "operators, non-reentrant checkpointing), or leave out the penalty"
            ) from None

    def _weighted(self, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        # Of the real images' type: a G under autocast makes fakes in bfloat16, and a second derivative wants float32.
        images = self.at(real, fake.to(real.dtype)).detach().requires_grad_()
        logits = discriminator(images, *labels)
        (gradient,) = torch.autograd.grad(at_least_float32(logits).sum(), images, create_graph=True)
        norm_squared = at_least_float32(gradient).square().flatten(1).sum(1)
        return self.every * self.weight * self.penalty(norm_squared).mean()


class R1(_InputGradientPenalty):
    """gamma / 2 * |grad D|^2 at real images (Mescheder et al. 2018, equation 9)."""

    def __init__(self, gamma: float, every: int = 1) -> None:
        super().__init__(gamma, every)

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the real images."""
        return real


class R2(R1):
    """gamma / 2 * |grad D|^2 at generated images (Mescheder et al. 2018, equation 10)."""

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generated images."""
        return fake


class GradientPenalty(_InputGradientPenalty):
    """weight * (|grad D| - 1)^2 between real and generated images (WGAN-GP: Gulrajani et al. 2017, equation 3)."""

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return random points on the lines between real and generated images."""
        share = torch.rand(real.shape[0], *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        return torch.lerp(real, fake, share)

    def penalty(self, norm_squared: Tensor) -> Tensor:
        """Return (norm - 1)^2."""
        return ((norm_squared + 1e-12).sqrt() - 1).square()  # sqrt has no derivative at 0


class WeightClipping(Regularizer):
    """Hold every weight of D within [-limit, limit] (WGAN: Arjovsky et al. 2017, algorithm 1)."""

    def __init__(self, limit: float = 0.01) -> None:
        _check_above_0("WeightClipping", "a limit", limit)
        self.limit = limit

    @torch.no_grad()
    def after_step(self, discriminator: nn.Module) -> None:
        """Clip the weights."""
        for parameter in _trainable(discriminator):
            parameter.clamp_(-self.limit, self.limit)


REGULARIZERS: dict[str, Any] = {
    "r1": R1,
    "r2": R2,
    "gradient_penalty": GradientPenalty,
    "weight_clipping": WeightClipping,
}


def from_options(options: Sequence[tuple[str, Any]]) -> tuple[Regularizer, ...]:
    """Build the regularizers of a loss written `name+r1=10/16+weight_clipping=0.01`, in that order.

    `10/16` is the weight 10 with the interval 16: at every 16th step, 16 times as strong.
    """
    return tuple(_from_option(name, value) for name, value in options)


def parse_loss(text: str) -> tuple[str, tuple[Regularizer, ...]]:
    """Split `wgan+weight_clipping=0.01` into the loss's name and its regularizers."""
    parsed = spec.parse(text)
    return parsed.name, from_options(parsed.options)


def _from_option(name: str, value: Any) -> Regularizer:
    if name not in REGULARIZERS:
        raise unknown("regularizer", name, REGULARIZERS)
    if isinstance(value, str) and (lazy := re.fullmatch(r"([^/]+)/\s*(\d+)", value)):
        if not issubclass(REGULARIZERS[name], _InputGradientPenalty):
            raise InputError(f"regularizer {name!r} takes no interval: it acts at every step, got {value!r}")
        return REGULARIZERS[name](_number(name, lazy[1]), int(lazy[2]))
    return REGULARIZERS[name](_number(name, value))


def _number(name: str, value: Any) -> float:
    try:
        if not isinstance(value, bool) and math.isfinite(number := float(value)):
            return number
    except (TypeError, ValueError):
        pass
    raise InputError(f"regularizer {name!r} takes a number, or WEIGHT/INTERVAL as 10/16, got {value!r}")


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
