"""The gradients of one step, taken twice: by one stage, and by plain autograd of what each player minimises."""

import copy
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from osgan.augmentation import Augmentation
from osgan.copies import copy_of, randomness_kept
from osgan.errors import InputError, InputWarning
from osgan.latent import Latent
from osgan.losses import AdversarialLoss, at_least_float32
from osgan.precision import full_precision
from osgan.regularizers import Regularizer
from osgan.schemes import OneStage
from osgan.scoring import Batch, Seeing, approximate_of
from osgan.structure import Structure


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


class Comparison:
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
        regularizers: Sequence[Regularizer] = (),
        augmentation: Augmentation | None = None,
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
            beside: dict[str, Any] = {"regularizers": regularizers, "augmentation": copy.deepcopy(augmentation)}
            self.scheme = _Indulgent(*networks, *none, loss=loss, latent=typed_latent, **beside)
            self.scheme.joint_batch = False  # the reference's order of random draws and of spectral-norm iterations
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", InputWarning)
                self.scheme.prepare(real, labels)
            self.warnings = tuple(str(w.message) for w in caught if issubclass(w.category, InputWarning))
            self.structure = self.scheme.found
            self.objection = self.scheme.objection
            constant = self.scheme.loss_structure.constant_ratio is not None
            if not self.structure.one_logit and not constant:
                return  # no ratio an image, so there is no one-stage gradient to compare
            torch.manual_seed(0)
            self.scheme.step(real, given)
            mine = [flat([p.grad for p in n.parameters()], n) for n in networks]
            theirs = players()
            torch.manual_seed(0)
            found = two_gradients(*theirs, loss, typed_latent, real, given, regularizers, copy.deepcopy(augmentation))
            reference = [flat(gradients, network) for gradients, network in zip(found, theirs, strict=True)]
        self.errors = relative_error(mine[0], reference[0]), relative_error(mine[1], reference[1])


def two_gradients(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    latent: Latent,
    real: Tensor,
    labels: tuple[Tensor, ...],
    regularizers: Sequence[Regularizer] = (),
    augmentation: Augmentation | None = None,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of G's and of D's weights by autograd of what each minimises, from one forward pass.

    Random numbers are drawn in the order of a step. Exact penalties have a pass of their own.
    """
    fake = generator(latent(len(real), real.device), *labels)
    if fake.ndim > real.ndim:
        real = real.unsqueeze(1).expand(-1, fake.shape[1], *real.shape[1:])
    leaf = fake.detach().requires_grad_()
    batch = Batch(real, leaf, labels)
    if augmentation is not None:
        batch = Batch(real, leaf, labels, augmentation.draw(real), augmentation.draw(fake))
    for regularizer in regularizers:
        seeing = Seeing(discriminator, partial(batch.seen, at_fake=regularizer.at_fake))
        regularizer.accumulate(seeing, real, leaf.detach(), labels)
    real_logits, fake_logits = (
        at_least_float32(discriminator(batch.seen(batch.images(side), side), *labels)) for side in (False, True)
    )
    of_discriminator, of_generator = loss.means(real_logits.flatten(), fake_logits.flatten())
    for penalty in approximate_of(regularizers):
        num = penalty.num_moved(len(real))
        moved = batch.seen(penalty.moved(batch.images(penalty.at_fake)), penalty.at_fake)
        here = (fake_logits if penalty.at_fake else real_logits)[:num]
        there = at_least_float32(discriminator(moved, *(y[:num] for y in labels)))
        of_discriminator = of_discriminator + penalty.value(here, there, num)
    (to_generator,) = torch.autograd.grad(of_generator, leaf, retain_graph=True, materialize_grads=True)
    outputs = [fake, *(extra for r in regularizers if (extra := r.of_generator(fake)) is not None)]
    of_g = _gradients(outputs, generator, [to_generator, *[None] * (len(outputs) - 1)])
    of_d = _gradients([of_discriminator], discriminator, [None])
    own = [p.grad for p in discriminator.parameters()]
    return of_g, [g if o is None else o if g is None else g + o for g, o in zip(of_d, own, strict=True)]


def _gradients(
    outputs: Sequence[Tensor], network: nn.Module, directions: Sequence[Tensor | None]
) -> list[Tensor | None]:
    trainable = [p for p in network.parameters() if p.requires_grad]
    found = iter(torch.autograd.grad(list(outputs), trainable, list(directions), allow_unused=True))
    return [next(found) if p.requires_grad else None for p in network.parameters()]


def flat(gradients: Iterable[Tensor | None], network: nn.Module) -> Tensor:
    """Return the gradients of all weights of a network as one tensor, zeros where there is none."""
    pairs = zip(gradients, network.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def relative_error(mine: Tensor, reference: Tensor) -> float:
    """Return the distance of two flat tensors over the size of the reference, in the Euclidean norm."""
    mine, reference = mine.double(), reference.double()
    size = reference.norm().item()
    return (mine - reference).norm().item() / (size or 1.0)  # a player at rest has nothing to be relative to
