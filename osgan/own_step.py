"""A step of the user's own beside plain autograd: what `verify` and `predict_speedup` do with `step=`.

The step is called as it is, on its own networks, several times from one state; weights, buffers, gradients and random
states are put back afterwards. The reference takes the same losses, but nothing is cut: `tap` returns the fakes
themselves, and each player's weights get the gradient of what that player minimises, on its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from osgan.comparison import flat
from osgan.copies import randomness_kept, seed_everything
from osgan.errors import InputError
from osgan.passes import Backward, Weight, as_reference

StepFunction = Callable[[], Any]
"""Fills `.grad` of both players, the same whenever it is called from the same state: its batch is its own."""


def gradients_of_step(step: StepFunction, generator: nn.Module, discriminator: nn.Module) -> list[Tensor]:
    """Return what a step leaves in `.grad` of G and of D, a flat tensor each; everything is as before afterwards.

    Raises InputError for a step that moves weights.
    """
    with put_back(generator, discriminator):
        before = [p.detach().clone() for network in (generator, discriminator) for p in network.parameters()]
        step()
        weights = [p for network in (generator, discriminator) for p in network.parameters()]
        if not all(torch.equal(a, b) for a, b in zip(before, weights, strict=True)):
            raise InputError(
                "step= moves weights: give a function that only fills gradients, without the optimizers' steps"
            )
        return [flat([p.grad for p in network.parameters()], network) for network in (generator, discriminator)]


def by_two_gradients(step: StepFunction, generator: nn.Module, discriminator: nn.Module) -> StepFunction:
    """Return the same step with `osgan.backward` replaced by plain autograd of each player's losses.

    Raises InputError, when it is called, for a step without `osgan.backward`.
    """
    calls = 0

    def take(fakes: list[Tensor], d_loss: Tensor, g_loss: Tensor, extra: list[Tensor], weight: Weight) -> Backward:
        nonlocal calls
        calls += 1
        _accumulate(d_loss, discriminator)
        if callable(weight):
            weight = weight(*torch.autograd.grad(g_loss, fakes, retain_graph=True))
        if isinstance(weight, Tensor):
            weight = weight.detach()
        total = weight * g_loss
        for term in extra:
            total = total + term
        _accumulate(total, generator)
        return Backward(passes=2)

    def reference() -> None:
        with as_reference(take):
            step()
        if not calls:
            raise InputError(
                "step= does not call osgan.backward, so there is no reference for it: give the loop that takes two "
                "gradients as reference="
            )

    return reference


def _accumulate(loss: Tensor, network: nn.Module) -> None:
    """Add the gradient of a loss to `.grad` of one network, and of no other."""
    weights = [p for p in network.parameters() if p.requires_grad]
    for weight, gradient in zip(
        weights, torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True), strict=True
    ):
        if gradient is not None:
            weight.grad = gradient if weight.grad is None else weight.grad + gradient


@contextmanager
def put_back(*networks: nn.Module) -> Iterator[None]:
    """Begin without gradients and from one random state; put weights, buffers, gradients and randomness back."""
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    kept = [t.detach().clone() for t in tensors]
    gradients = [(p, p.grad) for network in networks for p in network.parameters()]
    device = next(p for network in networks for p in network.parameters()).device
    with randomness_kept(device):
        seed_everything(0)
        for p, _ in gradients:
            p.grad = None
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, kept, strict=True):
                    tensor.copy_(value)
            for p, gradient in gradients:
                p.grad = gradient
