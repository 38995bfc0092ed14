"""The gradients of one step, taken twice: by one stage, and by plain autograd of what each player minimises."""

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from osgan.copies import copy_of, randomness_kept
from osgan.errors import InputError, InputWarning
from osgan.latent import Latent
from osgan.losses import AdversarialLoss, at_least_float32
from osgan.precision import full_precision
from osgan.schemes import OneStage
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
            mine = [flat([p.grad for p in n.parameters()], n) for n in networks]
            theirs = players()
            torch.manual_seed(0)
            reference = [
                flat(gradients, network)
                for gradients, network in zip(
                    two_gradients(*theirs, loss, typed_latent, real, given), theirs, strict=True
                )
            ]
        self.errors = relative_error(mine[0], reference[0]), relative_error(mine[1], reference[1])


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


def flat(gradients: Iterable[Tensor | None], network: nn.Module) -> Tensor:
    """Return the gradients of all weights of a network as one tensor, zeros where there is none."""
    pairs = zip(gradients, network.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def relative_error(mine: Tensor, reference: Tensor) -> float:
    """Return the distance of two flat tensors over the size of the reference, in the Euclidean norm."""
    mine, reference = mine.double(), reference.double()
    size = reference.norm().item()
    return (mine - reference).norm().item() / (size or 1.0)  # a player at rest has nothing to be relative to
