"""Is one-stage training exact for this G, this D and this loss? Measured on copies of the user's own networks.

One step's gradients are taken twice from the same random state: by the one-stage scheme, and by plain autograd of what
each player minimises, the loss's own functions. What is compared is every weight gradient of both networks.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan import checks
from osgan.copies import copy_of, randomness_kept
from osgan.errors import InputError, InputWarning
from osgan.latent import Latent
from osgan.losses import AdversarialLoss, as_loss, at_least_float32
from osgan.precision import full_precision
from osgan.schemes import OneStage
from osgan.structure import Structure

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Verification:
    """The outcome; errors are relative to the two-gradient reference, in the Euclidean norm over all weights."""

    exact: bool
    generator_error: float | None
    discriminator_error: float | None
    reason: str
    structure: Structure
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
            "logits_per_image": self.structure.logits_per_image,
            "cross_sample_derivative": self.structure.cross_sample,
            "scores_move_with_other_images": self.structure.mixes_scores,
            "optimizers": self.optimizers,
            "warnings": list(self.warnings),
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
) -> Verification:
    """Compare one-stage with two gradients on `real` (N, C, H, W), at least 2 images, and optional labels (N, ...).

    The networks are copied, not changed, and all random states kept. Everything is computed in full precision: in the
    networks' own type, TF32 off, networks of half precision in float32. `tolerance` is relative; by default it is 1e-10
    in float64 and 1e-5 in float32, and where float32 exceeds it, float64 decides whether that is more than rounding.
    `optimizers`, G's and D's, are looked at if they are given. Raises InputError where a step would: networks, images,
    labels and loss that do not go together.
    """
    loss = as_loss(loss)
    checks.check_networks(generator, discriminator)
    checks.check_trainable(generator, discriminator)
    said = "not given"
    if optimizers is not None:
        checks.check_optimizers(generator, discriminator, *optimizers)
        said = "each holds all trainable weights of its own network, once"
    checks.check_batch(real, () if labels is None else (labels,), discriminator)
    own = real.dtype if real.dtype == torch.float64 else torch.float32
    found = _Comparison(generator, discriminator, loss, real, latent, labels, own)
    allowed = TOLERANCE[own] if tolerance is None else tolerance
    note = ""
    if tolerance is None and own == torch.float32 and found.errors and max(found.errors) > allowed:
        try:
            in_double = _Comparison(generator, discriminator, loss, real, latent, labels, torch.float64)
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


class _Indulgent(OneStage):
    """One stage that keeps its objection and goes on, so that the error it would make can be measured."""

    objection: str | None = None

    def refuse(self, structure: Structure) -> None:
        """Note what would be raised."""
        self.found = structure
        try:
            super().refuse(structure)
        except InputError as error:
            self.objection = str(error).removeprefix("one-stage training is not exact here: ")


class _Comparison:
    """The gradients of one step, by one stage and by the reference, on copies of that type."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        real: Tensor,
        latent: Latent,
        labels: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        self.dtype = dtype
        self.errors: tuple[float, float] | None = None
        given = () if labels is None else (labels,)
        real = real.to(dtype)

        def typed_latent(n: int, device: torch.device) -> Tensor:
            z = latent(n, device)
            return z.to(dtype) if isinstance(z, Tensor) and z.is_floating_point() else z

        def players() -> tuple[nn.Module, nn.Module]:
            return tuple(  # type: ignore[return-value]
                copy_of(network, name).to(dtype=dtype)
                for network, name in ((generator, "generator"), (discriminator, "discriminator"))
            )

        with full_precision(real.device), randomness_kept(real.device):
            networks = players()
            none = [torch.optim.SGD(network.parameters(), lr=0.0) for network in networks]
            self.scheme = _Indulgent(*networks, *none, loss=loss, latent=typed_latent)
            self.scheme.joint_batch = False  # the reference's order of random draws and of spectral-norm iterations
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", InputWarning)
                self.scheme.prepare(real, labels)
            self.warnings = tuple(str(w.message) for w in caught if issubclass(w.category, InputWarning))
            self.structure = self.scheme.found
            self.objection = self.scheme.objection
            constant = self.scheme.loss_structure.constant_ratio is not None
            if self.structure.logits_per_image > 1 and not constant:
                return  # no ratio an image, so there is no one-stage gradient to compare
            torch.manual_seed(0)
            self.scheme.step(real, given)
            mine = [_flat([p.grad for p in n.parameters()], n) for n in networks]
            theirs = players()
            torch.manual_seed(0)
            reference = [
                _flat(gradients, network)
                for gradients, network in zip(
                    two_gradients(*theirs, loss, typed_latent, real, given), theirs, strict=True
                )
            ]
        self.errors = _relative_error(mine[0], reference[0]), _relative_error(mine[1], reference[1])


def two_gradients(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    latent: Latent,
    real: Tensor,
    labels: tuple[Tensor, ...],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of G's and of D's weights by autograd of what each minimises, from one forward pass."""
    fake = generator(latent(len(real), real.device), *labels)
    leaf = fake.detach().requires_grad_()
    real_logits = at_least_float32(discriminator(real, *labels).flatten())
    fake_logits = at_least_float32(discriminator(leaf, *labels).flatten())
    of_discriminator, of_generator = loss.means(real_logits, fake_logits)
    (to_generator,) = torch.autograd.grad(of_generator, leaf, retain_graph=True, materialize_grads=True)
    return _gradients(fake, generator, to_generator), _gradients(of_discriminator, discriminator)


def _gradients(output: Tensor, network: nn.Module, direction: Tensor | None = None) -> list[Tensor | None]:
    trainable = [p for p in network.parameters() if p.requires_grad]
    found = iter(torch.autograd.grad(output, trainable, direction, allow_unused=True))
    return [next(found) if p.requires_grad else None for p in network.parameters()]


def _flat(gradients: list[Tensor | None], network: nn.Module) -> Tensor:
    pairs = zip(gradients, network.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def _relative_error(mine: Tensor, reference: Tensor) -> float:
    mine, reference = mine.double(), reference.double()
    size = reference.norm().item()
    return (mine - reference).norm().item() / (size or 1.0)  # a player at rest has nothing to be relative to
