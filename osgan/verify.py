"""Is one-stage training exact for this G, this D and this loss? Measured on the user's own networks.

Copies of the networks take one step's gradients twice, once through the carrier and once as two gradients at the same
weights, from the same random state. What is compared is every weight gradient of both networks.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from osgan.latent import Latent
from osgan.losses import AdversarialLoss, as_loss
from osgan.schemes import OneStage, Simultaneous
from osgan.step import Labels
from osgan.structure import Structure, measure_structure

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Verification:
    """The outcome; errors are relative to the two-gradient reference, in the Euclidean norm over all weights."""

    exact: bool
    generator_error: float | None
    discriminator_error: float | None
    reason: str
    structure: Structure


def verify(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: str | AdversarialLoss,
    real: Tensor,
    latent: Latent,
    labels: Tensor | None = None,
    *,
    tolerance: float | None = None,
) -> Verification:
    """Compare one-stage with two gradients on `real` (N, C, H, W), at least 2 images, and optional labels (N,).

    The networks are copied, not changed. `tolerance` is relative; by default 1e-10 in float64 and 1e-5 in float32.
    Raises InputError when D does not return one tensor with a row per image.
    """
    loss = as_loss(loss)
    given = () if labels is None else (labels,)
    structure = measure_structure(discriminator, real, given)
    objection = structure.objection(loss)
    if objection and structure.logits_per_image > 1:  # no ratio an image, so there is no one-stage gradient to compare
        return Verification(False, None, None, objection, structure)
    # Separate passes for both: the same order of random draws and of spectral-norm iterations.
    separate = Structure(logits_per_image=structure.logits_per_image, cross_sample=float("inf"))
    one_stage, reference = (
        _gradients(scheme, generator, discriminator, loss, latent, real, given, separate)
        for scheme in (OneStage, Simultaneous)
    )
    generator_error, discriminator_error = (
        _relative_error(mine, its) for mine, its in zip(one_stage, reference, strict=True)
    )
    if tolerance is None:
        tolerance = TOLERANCE.get(real.dtype, 1e-2)
    within = generator_error <= tolerance and discriminator_error <= tolerance
    if loss.symmetric and not objection and not _is_symmetric(loss):
        objection = f"the loss {loss.name!r} says that it is symmetric, but dL_G/ds is not -dL_D/ds at every logit"
    if objection:
        reason = objection
    elif within:
        cause = "the loss is symmetric" if loss.symmetric else "the discriminator scores each image on its own"
        reason = f"{cause}, and both gradients agree with the two-gradient reference to {tolerance:.0e}"
    else:
        reason = f"the gradients differ by more than {tolerance:.0e} from the two-gradient reference"
    return Verification(
        exact=within and objection is None,
        generator_error=generator_error,
        discriminator_error=discriminator_error,
        reason=reason,
        structure=structure,
    )


def _gradients(
    scheme: Callable[..., OneStage | Simultaneous],
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    latent: Latent,
    real: Tensor,
    labels: Labels,
    structure: Structure,
) -> tuple[Tensor, Tensor]:
    """Return the flat gradients of copies of G and D after one step that moves nothing."""
    networks = copy.deepcopy(generator), copy.deepcopy(discriminator)
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.0) for network in networks]
    step = scheme(*networks, *optimizers, loss=loss, latent=latent)
    step.structure = structure
    with torch.random.fork_rng([real.device] if real.device.type == "cuda" else []):
        torch.manual_seed(0)
        step.step(real, labels)
    of_generator, of_discriminator = (
        torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in network.parameters()])
        for network in networks
    )
    return of_generator, of_discriminator


def _is_symmetric(loss: AdversarialLoss) -> bool:
    logits = torch.linspace(-20, 20, 81, dtype=torch.float64)
    gradients = loss.gradients(*torch.cartesian_prod(logits, logits).unbind(1))
    return torch.allclose(gradients.generator, -gradients.fake, rtol=1e-12, atol=0)


def _relative_error(mine: Tensor, reference: Tensor) -> float:
    mine, reference = mine.double(), reference.double()
    size = reference.norm().item()
    return (mine - reference).norm().item() / (size or 1.0)  # a player at rest has nothing to be relative to
