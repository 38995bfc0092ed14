"""Penalties on D's input gradient: R1, R2, and WGAN-GP's.

R1 and R2 are taken at images that D scores anyway: where a scheme can differentiate its own forward pass twice, they
take it (`from_gradient`), as R3GAN's and StyleGAN2's loops do; else, and at points of their own, they go through D in a
pass of their own (`accumulate`). Either adds to the gradient of D's weights alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from osgan.errors import InputError, cause_of
from osgan.losses import at_least_float32
from osgan.regularizers.base import Regularizer, check_interval, check_positive, trainable


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Go through what has second derivatives: attention's plain formula, and D uncompiled.

    Backward too, where activation checkpointing goes forward once more and must meet the same operators.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
        yield


class InputGradientPenalty(Regularizer):
    """A penalty on D's gradient at some images."""

    def __init__(self, weight: float, every: int = 1) -> None:
        check_positive(type(self).__name__, "a weight", weight)
        check_interval(type(self).__name__, every)
        self.weight = weight
        self.every = every

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the images at which D's gradient is penalised."""
        raise NotImplementedError

    def penalty(self, norm_squared: Tensor) -> Tensor:
        """Return the penalty of each image from the squared norm (N,) of D's gradient there."""
        return norm_squared / 2

    def from_gradient(self, gradient: Tensor) -> Tensor:
        """Return the penalty, a scalar, of D's gradient (N, ...) at the images."""
        norm_squared = at_least_float32(gradient).square().flatten(1).sum(1)
        return self.scale * (self.every * self.weight) * self.penalty(norm_squared).mean()

    def accumulate(self, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Add the penalty's gradient to that of D's weights, by a pass through D of its own."""
        # With inputs= no gradient is computed for the images, and a layer that has no second derivative is passed over.
        with twice_differentiable():
            self._weighted(discriminator, real, fake, labels).backward(inputs=trainable(discriminator))

    def check(self, discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...]) -> None:
        """Raise InputError for a D that has no second derivatives."""
        try:
            with twice_differentiable():
                self._weighted(discriminator, real, real.flip(-1), labels).backward()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(
                f"{type(self).__name__} differentiates the discriminator twice, and a layer of it cannot be: "
                f"{cause_of(error)}; put an implementation in its place that has second derivatives (plain PyTorch "
                "operators, non-reentrant checkpointing), or leave out the penalty, or take an approximate one: AR1, "
                "AR2"
            ) from None

    def _weighted(self, discriminator: nn.Module, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        # Of the real images' type: a G under autocast makes fakes in bfloat16, and a second derivative wants float32.
        images = self.at(real, fake.to(real.dtype)).detach().requires_grad_()
        logits = discriminator(images, *labels)
        (gradient,) = torch.autograd.grad(at_least_float32(logits).sum(), images, create_graph=True)
        return self.from_gradient(gradient)


class R1(InputGradientPenalty):
    """gamma / 2 * |grad D|^2 at real images (Mescheder et al. 2018, equation 9)."""

    def __init__(self, gamma: float, every: int = 1) -> None:
        super().__init__(gamma, every)

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the real images."""
        return real


class R2(R1):
    """gamma / 2 * |grad D|^2 at generated images (Mescheder et al. 2018, equation 10)."""

    at_fake = True

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generated images."""
        return fake


class GradientPenalty(InputGradientPenalty):
    """weight * (|grad D| - 1)^2 between real and generated images (WGAN-GP: Gulrajani et al. 2017, equation 3)."""

    at_fake = True

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    def at(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return random points on the lines between real and generated images."""
        share = torch.rand(real.shape[0], *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        return torch.lerp(real, fake, share)

    def penalty(self, norm_squared: Tensor) -> Tensor:
        """Return (norm - 1)^2."""
        return ((norm_squared + 1e-12).sqrt() - 1).square()  # sqrt has no derivative at 0
