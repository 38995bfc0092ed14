"""One stage inside a loop of your own: `tap` the fakes, call D as you always do, `backward` fills both players' .grad.

The fakes are cut off into leaves, D goes forward once, and G goes backward once, from what arrives at the leaves. With
the logits at hand one backward pass through D serves both players (section 3 of the paper); without, two from the one
forward pass, exact for every D and every loss. No zero_grad, no step, no mean: gradients add up as autograd's do.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from osgan.decomposition import decompose
from osgan.errors import InputError
from osgan.exactness import Step, know, sides
from osgan.losses import at_least_float32
from osgan.proportional import constant_ratio, derivatives
from osgan.wiring import blind, check_wiring, tensors

Weight = float | Tensor | Callable[..., float | Tensor]
Losses = Tensor | Sequence[Tensor] | dict[str, Tensor]


@torch.compiler.disable
def tap(*fakes: Any) -> Any:
    """Return the fakes as D is to see them: leaves, cut off from G, that know where they come from.

    Any nesting of lists, tuples and dicts keeps its shape; several arguments give a tuple. The same fake tapped twice
    gives two leaves, one for each D, whose gradients add up. Tensors without a gradient and other objects pass through.
    Raises InputError where nothing carries a gradient to G.
    """
    if not any(fake.requires_grad for fake in tensors(fakes)):
        raise InputError(
            "osgan.tap was given nothing that carries a gradient to the generator: call G outside torch.no_grad(), and "
            "tap its output before it is detached"
        )
    if len(fakes) > 1:
        return tree_map(_leaf_of, fakes)
    return _leaf_of(fakes[0]) if isinstance(fakes[0], Tensor) else tree_map(_leaf_of, fakes[0])


def _leaf_of(fake: Any) -> Any:
    if not isinstance(fake, Tensor) or not fake.requires_grad:
        return fake
    leaf = fake if _as_reference.get() else fake.detach().requires_grad_()
    leaf.osgan_fake = fake  # type: ignore[attr-defined]
    return leaf


@dataclass(frozen=True)
class Backward:
    """What a backward pass did; tensors stay on the device, and nothing waits for it until one is read."""

    passes: int
    """Backward passes through D: 1 or 2."""
    carriers: tuple[Tensor, ...] = ()
    """What was sent through D at the fake logits (N, ...), where each had a ratio of its own."""
    ratios: tuple[Tensor, ...] = ()
    """By what it was multiplied for G: of the same shapes, or one number for all logits."""
    derivatives: tuple[Tensor, ...] = ()
    """dL_D/ds as it was before the floor, of the carriers' shapes."""

    @property
    def num_floored(self) -> Tensor | None:
        """How many carriers were held above the floor."""
        if not self.carriers:
            return None
        pairs = zip(self.carriers, self.derivatives, strict=True)
        return torch.stack([(carrier.abs() > of_d.abs()).sum() for carrier, of_d in pairs]).sum()

    @property
    def ratio_range(self) -> tuple[Tensor, Tensor] | None:
        """The smallest and the largest ratio."""
        if not self.ratios:
            return None
        every = torch.cat([ratio.flatten() for ratio in self.ratios])
        return every.amin(), every.amax()


@torch.compiler.disable
def backward(
    leaf: Any,
    d_loss: Tensor,
    g_loss: Tensor,
    *,
    extra: Losses = (),
    logits: tuple[Any, Any] | None = None,
    weight: Weight = 1.0,
    floor: float | None = None,
    check: bool | None = None,
) -> Backward:
    """Add the gradients of both players' losses to `.grad` of their weights, from the one forward pass.

    Args:
        leaf: What `tap` returned; all of it, or the part of it that D was given.
        d_loss: What D minimises, a scalar computed from D's outputs on real data and on the leaf.
        g_loss: What G minimises through D, a scalar computed from D's outputs on the leaf.
        extra: What else G minimises, past D, from the fake itself: a scalar, or several.
        logits: D's outputs on real data and on the leaf that both losses are computed from, tensors with a row for each
            sample or nestings of them. With them one backward pass through D does, where it is exact: a logit for each
            sample (and for each leaf), under a D that keeps samples (and leaves) apart; or losses of which dL_G/ds is
            the same multiple of dL_D/ds at every logit, whatever D is. Without, two backward passes.
        weight: Of g_loss: a number, or a function of what arrives at the leaves, a tensor for each, that returns one
            (adaptive weights).
        floor: The least |carrier| in units of |dL_G/ds|; None is 1e-8 in float32 and 1e-17 in float64.
        check: Whether to measure that one backward pass is exact, which waits for the device: None does so for every
            graph of D that was not seen, and again after 1, 2, 4, 8, ... of its steps; True now, False never.

    Raises:
        InputError: Where a loss takes another way than this function sends it: D was given the fake itself, a term
            past D stands in g_loss, one through D in extra.
        NotExactError: Where one backward pass would not be exact; nothing has been added to any gradient.
    """
    leaves, fakes = _tapped(leaf)
    extras = tensors(extra)
    for name, loss in (("d_loss", d_loss), ("g_loss", g_loss), *(("extra", term) for term in extras)):
        _check_scalar(name, loss)
    if (reference := _as_reference.get()) is not None:
        return reference(fakes, d_loss, g_loss, extras, weight)
    wiring = check_wiring(leaves, fakes, d_loss, g_loss, extras)
    if logits is None:
        arrived = two_passes(leaves, [g_loss], [None], [d_loss], [None], wiring.d_weights)
        onward(leaves, arrived, extras, weight)
        return Backward(passes=2)
    step = Step(leaves, d_loss, g_loss, *sides(logits), floor)
    of_leaves = know(step, wiring, check)
    of_d, of_g = derivatives(d_loss, step.fake), derivatives(g_loss, step.fake)
    if of_leaves is None:
        ratio = constant_ratio(of_d, of_g)
        onward(leaves, one_pass(leaves, [d_loss], [None], [ratio] * len(leaves)), extras, weight)
        return Backward(passes=1, ratios=(ratio,))
    pairs = [
        decompose(at_least_float32(c), at_least_float32(g), s.dtype, floor)
        for s, c, g in zip(step.fake, of_d, of_g, strict=True)
    ]
    ratios = [
        pairs[place][1].reshape(len(leaf), -1, *[1] * (leaf.ndim - 1))[:, column]
        for leaf, (place, column) in zip(leaves, of_leaves, strict=True)
    ]
    carriers = tuple(carrier for carrier, _ in pairs)
    with _carrying(step.fake, carriers):
        arrived = one_pass(leaves, [d_loss], [None], ratios)
    onward(leaves, arrived, extras, weight)
    return Backward(1, carriers, tuple(ratio for _, ratio in pairs), tuple(map(at_least_float32, of_d)))


@contextmanager
def _carrying(logits: Sequence[Tensor], carriers: Sequence[Tensor]) -> Iterator[None]:
    """Put the carriers in where a backward pass comes by the logits; D's loss may have terms of its own beside them."""
    hooks = [s.register_hook(_by(carrier.to(s.dtype))) for s, carrier in zip(logits, carriers, strict=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _by(carrier: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: carrier


def one_pass(
    leaves: Sequence[Tensor],
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    ratios: Sequence[float | Tensor],
    inputs: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Send `gradients` at `roots` through D once; return what arrives at each leaf, times its ratio: G's gradient.

    `inputs` are D's weights and the leaves, where there are other tensors that a gradient could go to.
    """
    for leaf in leaves:
        leaf.grad = None  # of whoever went backward to it before, as a penalty does
    send(roots, gradients, inputs)
    arrived = []
    for leaf, ratio in zip(leaves, ratios, strict=True):
        assert leaf.grad is not None
        # dL_G/dx_i = (dL_G/ds_i / c_i) * c_i ds_i/dx_i; a symmetric loss has the ratio -1 for every logit
        arrived.append(ratio * leaf.grad)
        leaf.grad = None
    return arrived


def two_passes(
    leaves: Sequence[Tensor],
    g_roots: Sequence[Tensor],
    g_gradients: Sequence[Tensor | None],
    d_roots: Sequence[Tensor],
    d_gradients: Sequence[Tensor | None],
    d_weights: Sequence[Tensor],
) -> Sequence[Tensor]:
    """Send each player's gradients through D on their own; return what arrives at each leaf, G's gradient."""
    arrived = torch.autograd.grad(
        list(g_roots), list(leaves), _typed(g_roots, g_gradients), retain_graph=True, allow_unused=True
    )
    for number, (leaf, gradient) in enumerate(zip(leaves, arrived, strict=True)):
        if gradient is None:
            raise blind(leaf, number)
    send(d_roots, d_gradients, inputs=d_weights)
    return arrived


def send(roots: Sequence[Tensor], gradients: Sequence[Tensor | None], inputs: Sequence[Tensor] | None = None) -> None:
    """Send gradients, of any type, at `roots` back into all leaves' `.grad`, or into that of `inputs` alone."""
    torch.autograd.backward(list(roots), _typed(roots, gradients), inputs=None if inputs is None else list(inputs))


def _typed(roots: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if g is None else g.to(root.dtype) for root, g in zip(roots, gradients, strict=True)]


def onward(
    leaves: Sequence[Tensor], arrived: Sequence[Tensor], extra: Sequence[Tensor] = (), weight: Weight = 1.0
) -> None:
    """Go backward through G once, from the fakes and from what it minimises past D."""
    factor = weight(*arrived) if callable(weight) else weight
    fakes = [leaf.osgan_fake for leaf in leaves]  # type: ignore[attr-defined]
    if isinstance(factor, Tensor) or factor != 1.0:
        arrived = [factor * gradient for gradient in arrived]
    send([*fakes, *extra], [*arrived, *[None] * len(extra)])
    for leaf in leaves:
        del leaf.osgan_fake  # type: ignore[attr-defined]


def _tapped(leaf: Any) -> tuple[list[Tensor], list[Tensor]]:
    given = [x for x in tensors(leaf) if x.requires_grad]
    for tensor in given:
        if not hasattr(tensor, "osgan_fake"):
            raise InputError(
                f"a tensor {tuple(tensor.shape)} given as leaf does not come from osgan.tap, or has gone backward "
                "already: every forward pass of D takes a new osgan.tap(fake)"
            )
    if not given:
        raise InputError(f"leaf must be what osgan.tap returned, got {type(leaf).__name__}")
    leaves = list({id(tensor): tensor for tensor in given}.values())
    return leaves, [tensor.osgan_fake for tensor in leaves]  # type: ignore[attr-defined]


def _check_scalar(name: str, loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"{name} must be a scalar tensor, what the player minimises, got {found}: take its mean")
    if not loss.requires_grad:
        raise InputError(
            f"{name} carries no gradient: was it computed under torch.no_grad(), or from detached outputs of D, or are "
            "all weights frozen?"
        )


_as_reference: ContextVar[Callable[..., Backward] | None] = ContextVar("_as_reference", default=None)


@contextmanager
def as_reference(take: Callable[..., Backward]) -> Iterator[None]:
    """Let `tap` cut nothing and `backward` hand its losses to `take`, for those who compare (`osgan.verify`)."""
    token = _as_reference.set(take)
    try:
        yield
    finally:
        _as_reference.reset(token)
