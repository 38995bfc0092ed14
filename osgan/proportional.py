"""Losses of which dL_G/ds is one multiple of dL_D/ds at every logit: minimax, WGAN, and either with a weight.

One backward pass then carries both gradients through any D: what arrives at the fakes, times that multiple, is G's.
What is known of a loss here is what a step's graph shows: its functions, and its derivatives at this batch's logits.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from osgan.losses import at_least_float32
from osgan.wiring import walk

# fmt: off
ANALYTIC = frozenset((
    "Add", "Alias", "AsStrided", "BinaryCrossEntropyWithLogits", "Cat", "Clone", "Div", "Expand", "Exp", "Flatten",
    "Log", "Log1P", "LogSigmoid", "Logaddexp", "Mean", "MseLoss", "Mul", "Neg", "Permute", "Pow", "ReshapeAlias",
    "Rsub", "Select", "Sigmoid", "Slice", "Softplus", "Split", "Squeeze", "Stack", "Sub", "Sum", "T", "Tanh", "ToCopy",
    "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View",
))
# fmt: on
"""Autograd's names of functions without a kink: what holds of them near some logits holds everywhere."""


def derivatives(loss: Tensor, at: Sequence[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Return the loss's derivatives at some tensors, of their shapes; the graph is kept."""
    return list(
        torch.autograd.grad(loss, list(at), retain_graph=True, materialize_grads=True, create_graph=create_graph)
    )


def constant_ratio(of_d: Sequence[Tensor], of_g: Sequence[Tensor]) -> Tensor:
    """Return the one number k of dL_G/ds = k dL_D/ds, from all logits; 0 where D's derivatives are all 0."""
    c, g = (at_least_float32(torch.cat([x.flatten() for x in many])) for many in (of_d, of_g))
    largest = c.abs().amax()
    scale = torch.where(largest == 0, 1, largest)  # squares of saturated losses' derivatives would vanish
    c, g = c / scale, g / scale
    return (c * g).sum() / torch.where(largest == 0, 1, (c * c).sum())


def why_not_constant(
    d_loss: Tensor, g_loss: Tensor, real: Sequence[Tensor], fake: Sequence[Tensor], draws: torch.Generator
) -> str | None:
    """Say why dL_G/ds is not known to be one multiple of dL_D/ds at all logits; None if it is.

    On one batch the hinge loss looks symmetric as long as no fake is below -1. So the losses must be made of analytic
    functions, and dL_G/ds - k dL_D/ds must vanish with its derivative.
    """
    both = [*real, *fake]
    of_d, of_g = (derivatives(loss, fake, create_graph=True) for loss in (d_loss, g_loss))
    ratio = constant_ratio(of_d, of_g).detach()
    rest = [g - ratio.to(c.dtype) * c for c, g in zip(of_d, of_g, strict=True)]
    tolerance = 1e-9 if fake[0].dtype == torch.float64 else 1e-3
    if _size(rest) > tolerance * _size(of_g) or _curvature(rest, both, draws) > tolerance * _curvature(
        of_g, both, draws
    ):
        return "dL_G/ds is no constant multiple of dL_D/ds"
    nodes = walk([d_loss, g_loss], stops=both).nodes
    if kinks := {_function_of(node) for node in nodes if not hasattr(node, "variable")} - ANALYTIC:
        return (
            "dL_G/ds is a constant multiple of dL_D/ds on this batch, but perhaps not on others: the losses hold "
            + ", ".join(sorted(kinks))
        )
    return None


def _curvature(derivatives_at: Sequence[Tensor], logits: Sequence[Tensor], draws: torch.Generator) -> float:
    """Return the size of the derivative, at all logits, of a random combination of derivatives at the fakes'."""
    draws.manual_seed(1)
    mixed = [(x * signs(x, draws)).sum() for x in derivatives_at]
    total = torch.stack(mixed).sum()
    return _size(derivatives(total, logits)) if total.requires_grad else 0.0


def signs(like: Tensor, draws: torch.Generator) -> Tensor:
    """Return numbers of a tensor's shape, 1 or -1: their size is lost in no type."""
    return torch.randint(0, 2, like.shape, generator=draws, device=draws.device).to(like) * 2 - 1


def _size(tensors: Sequence[Tensor]) -> float:
    return max((x.detach().abs().max().item() for x in tensors if x.numel()), default=0.0)


def _function_of(node: Any) -> str:
    """Return the name of what a node differentiates; a product with a tensor of numbers, as of a mask, is no `Mul`."""
    name = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
    factors = (getattr(node, "_saved_self", None), getattr(node, "_saved_other", None)) if name == "Mul" else ()
    masked = any(f is not None and f.numel() > 1 and not f.requires_grad for f in factors)
    return "Mul by a tensor" if masked else name
