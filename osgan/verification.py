"""Is one-stage training exact for this G, this D and this loss? Measured on copies of the user's own networks.

One step's gradients are taken twice from the same random state: by the one-stage scheme, and by plain autograd of what
each player minimises, the loss's own functions. What is compared is every weight gradient of both networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan import checks
from osgan.augmentation import Augmentation
from osgan.comparison import Comparison, relative_error
from osgan.errors import InputError
from osgan.latent import Latent
from osgan.losses import AdversarialLoss, as_loss
from osgan.own_step import StepFunction, by_two_gradients, gradients_of_step
from osgan.precision import full_precision
from osgan.regularizers import Regularizer
from osgan.structure import Structure

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Verification:
    """The outcome; errors are relative to the two-gradient reference, in the Euclidean norm over all weights."""

    exact: bool
    generator_error: float | None
    discriminator_error: float | None
    reason: str
    structure: Structure | None
    """Of a scheme's D; None for a step of the user's own."""
    precision: str = "float32"
    """What the errors were computed in: float64, or float32 with TF32 switched off."""
    tolerance: float = 1e-5
    """The largest error that counts as exact."""
    optimizers: str = "not given"
    """Whether each optimizer holds its own network's weights, all of them; `not given` if there was none to look at."""
    warnings: tuple[str, ...] = ()
    """What works and is probably not meant."""

    def rows(self) -> dict[str, object]:
        """Return the figures by name, as commands show them."""
        return {
            "exact": self.exact,
            "reason": self.reason,
            "precision": self.precision,
            "generator_error": self.generator_error,
            "discriminator_error": self.discriminator_error,
            "tolerance": self.tolerance,
            **self._of_structure(),
            "warnings": list(self.warnings),
        }

    def _of_structure(self) -> dict[str, object]:
        if self.structure is None:
            return {}
        return {
            "logits_per_image": self.structure.logits_per_image,
            "cross_sample_derivative": self.structure.cross_sample,
            "scores_move_with_other_images": self.structure.mixes_scores,
            "optimizers": self.optimizers,
        }

    def __str__(self) -> str:
        """Return the verdict on a line of its own, then a table of the figures."""
        rows = {key: value for key, value in self.rows().items() if key not in ("exact", "warnings")}
        width = max(map(len, rows)) + 2
        lines = [f"{key.replace('_', ' '):<{width}}{_written(value)}" for key, value in rows.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(["EXACT" if self.exact else "NOT EXACT", *lines])


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.2e}" if isinstance(value, float) else str(value)


@overload
def verify(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: str | AdversarialLoss,
    real: Tensor,
    latent: Latent,
    labels: Tensor | None = None,
    *,
    tolerance: float | None = None,
    optimizers: tuple[Optimizer, Optimizer] | None = None,
    regularizers: Sequence[Regularizer] = (),
    augmentation: Augmentation | None = None,
) -> Verification: ...


@overload
def verify(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    tolerance: float | None = None,
    step: StepFunction,
    reference: StepFunction | None = None,
) -> Verification: ...


def verify(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: str | AdversarialLoss | None = None,
    real: Tensor | None = None,
    latent: Latent | None = None,
    labels: Tensor | None = None,
    *,
    tolerance: float | None = None,
    optimizers: tuple[Optimizer, Optimizer] | None = None,
    regularizers: Sequence[Regularizer] = (),
    augmentation: Augmentation | None = None,
    step: StepFunction | None = None,
    reference: StepFunction | None = None,
) -> Verification:
    """Compare one-stage with two gradients on `real` (N, C, H, W), at least 2 images, and optional labels (N, ...).

    The networks are copied, not changed, and all random states kept. Everything is computed in full precision: in the
    networks' own type, TF32 off, networks of half precision in float32. `tolerance` is relative; by default it is 1e-10
    in float64 and 1e-5 in float32, and where float32 exceeds it, float64 decides whether that is more than rounding.
    `optimizers`, G's and D's, are looked at if they are given; `regularizers` and `augmentation` take part in both.

    Or compare a step of your own, `step`, a function without arguments that fills gradients by `osgan.backward`, with
    the same losses by plain autograd, a gradient for each player on its own; or with `reference`, another such function
    (your loop before the change, with both gradients taken at the same weights). Both are called on the networks
    themselves, which are put back. All of G's side is one module, and all of D's: nn.ModuleList([...]).

    Raises InputError where a step would: networks, images, labels and loss that do not go together.
    """
    if step is not None:
        return _verify_step(generator, discriminator, step, reference, tolerance)
    if loss is None or real is None or latent is None:
        raise InputError("verify needs loss, real and latent, or a step function of your own as step=")
    compare = partial(
        Comparison,
        *(generator, discriminator, as_loss(loss), real, latent, labels),
        regularizers=regularizers,
        augmentation=augmentation,
    )
    return _verify_scheme(compare, generator, discriminator, real, labels, tolerance, optimizers)


def _verify_step(
    generator: nn.Module,
    discriminator: nn.Module,
    step: StepFunction,
    reference: StepFunction | None,
    tolerance: float | None,
) -> Verification:
    checks.check_trainable(generator, discriminator)
    weights = [p for network in (generator, discriminator) for p in network.parameters()]
    double = all(p.dtype == torch.float64 for p in weights)
    allowed = TOLERANCE[torch.float64 if double else torch.float32] if tolerance is None else tolerance
    against = reference or by_two_gradients(step, generator, discriminator)
    with full_precision(weights[0].device):
        mine, again, theirs = (gradients_of_step(f, generator, discriminator) for f in (step, step, against))
    if max(map(relative_error, again, mine)) > allowed:
        raise InputError(
            "step= takes other gradients when it is called again from the same weights and random state: let it work "
            "on one batch, and draw nothing from a generator of its own"
        )
    errors = [relative_error(m, t) for m, t in zip(mine, theirs, strict=True)]
    within = max(errors) <= allowed
    if within:
        reason = f"both gradients agree with the two-gradient reference to {allowed:.0e}"
    else:
        reason = f"the gradients differ by more than {allowed:.0e} from the two-gradient reference"
        reason += "" if double else "; float64 networks and data tell a wrong gradient from rounding"
    return Verification(
        exact=within,
        generator_error=errors[0],
        discriminator_error=errors[1],
        reason=reason,
        structure=None,
        precision="float64" if double else "float32, TF32 off",
        tolerance=allowed,
    )


def _verify_scheme(
    compare: Callable[..., Comparison],
    generator: nn.Module,
    discriminator: nn.Module,
    real: Tensor,
    labels: Tensor | None,
    tolerance: float | None,
    optimizers: tuple[Optimizer, Optimizer] | None,
) -> Verification:
    checks.check_networks(generator, discriminator)
    checks.check_trainable(generator, discriminator)
    said = "not given"
    if optimizers is not None:
        checks.check_optimizers(generator, discriminator, *optimizers)
        said = "each holds all trainable weights of its own network, once"
    checks.check_batch(real, () if labels is None else (labels,), discriminator)
    own = real.dtype if real.dtype == torch.float64 else torch.float32
    found = compare(dtype=own)
    allowed = TOLERANCE[own] if tolerance is None else tolerance
    note = ""
    if tolerance is None and own == torch.float32 and found.errors and max(found.errors) > allowed:
        try:
            in_double = compare(dtype=torch.float64)
        except (InputError, RuntimeError):
            note = "; float64, which would tell rounding from a wrong gradient, fails on these networks"
        else:
            note = f"; in float32 they differ by {max(found.errors):.1e}"
            found, allowed = in_double, TOLERANCE[torch.float64]
    within = found.errors is not None and max(found.errors) <= allowed
    if found.objection:
        reason = found.objection
    elif within:
        constant = found.scheme.loss_structure.constant_ratio is not None
        cause = "the loss is symmetric" if constant else "the discriminator scores each image on its own"
        reason = f"{cause}, and both gradients agree with the two-gradient reference to {allowed:.0e}{note}"
    else:
        reason = f"the gradients differ by more than {allowed:.0e} from the two-gradient reference{note}"
    return Verification(
        exact=within and found.objection is None,
        generator_error=found.errors[0] if found.errors else None,
        discriminator_error=found.errors[1] if found.errors else None,
        reason=reason,
        structure=found.structure,
        precision="float64" if found.dtype == torch.float64 else "float32, TF32 off",
        tolerance=allowed,
        optimizers=said,
        warnings=found.warnings,
    )
