"""Whether one backward pass through D is exact for the losses and logits of a step, measured on the step's own graph.

Two ways it can be. Every leaf meets one column of logits, row by row: then a ratio for each logit undoes what D's loss
sent (section 3 of the paper). Or dL_G/ds is the same multiple of dL_D/ds at every logit, whatever D is. What was
measured is kept with D's weights, for each graph that D was seen to make; measured again after 1, 2, 4, 8, ... steps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from osgan.decomposition import RELATIVE_FLOOR, refuse_float16
from osgan.errors import InputError, NotExactError
from osgan.losses import at_least_float32
from osgan.wiring import walk

WAY_OUT = "leave out logits=: two backward passes from the one forward pass are exact for every D and every loss"
MOST_GRAPHS = 64
"""Graphs of one D that are remembered."""


class Columns(NamedTuple):
    """The fake logits, and which of them a leaf meets."""

    fake: list[Tensor]
    of_leaves: tuple[tuple[int, int], ...] | None
    """For each leaf the tensor of logits and the column in it; None where one ratio serves all."""


class _Known:
    def __init__(self) -> None:
        self.steps = 0
        self.of_leaves: tuple[tuple[int, int], ...] | None = None

    @property
    def is_due(self) -> bool:
        """Whether the step to come is number 1, 2, 4, 8, ..."""
        return self.steps & (self.steps - 1) == 0


_known: WeakIdKeyDictionary = WeakIdKeyDictionary()


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


def know(
    leaves: Sequence[Tensor],
    d_loss: Tensor,
    g_loss: Tensor,
    logits: tuple[Any, Any],
    *,
    floor: float | None,
    check: bool | None,
) -> Columns:
    """Return which logits the leaves meet, as known of this graph of D, or as measured now.

    Raises InputError for logits that the losses are not computed from, NotExactError where one pass is not exact.
    """
    if not isinstance(logits, tuple | list) or len(logits) != 2:
        raise InputError("logits must be the pair (D's outputs on real data, D's outputs on the leaf)")
    real, fake = ([x for x in tree_leaves(side) if isinstance(x, Tensor) and x.requires_grad] for side in logits)
    if not fake:
        raise InputError("logits holds no output of D on the leaf that carries a gradient")
    _check_ways(leaves, d_loss, g_loss, real, fake)
    trunk = walk(fake)
    tapped = {id(leaf) for leaf in leaves}
    weights = [end for key, end in trunk.ends.items() if key not in tapped]
    graphs = _known.setdefault(weights[0] if weights else leaves[0], {})
    of_losses = walk([d_loss, g_loss], stops=[*real, *fake])
    described = tuple(map(_described, (*trunk.nodes, *of_losses.nodes)))
    shapes = tuple((x.shape, x.dtype) for x in (*leaves, *fake))
    known = graphs.pop(key := (described, shapes), None) or _Known()
    capturing = leaves[0].is_cuda and torch.cuda.is_current_stream_capturing()
    if check or (check is None and known.is_due and not capturing):
        known.of_leaves = _measure(leaves, d_loss, g_loss, real, fake, floor, thorough=known.steps == 0)
    elif known.steps == 0:
        known.of_leaves = _presumed(leaves, fake)
    known.steps += 1
    graphs[key] = known
    if len(graphs) > MOST_GRAPHS:
        del graphs[next(iter(graphs))]
    return Columns(fake, known.of_leaves)


def _described(node: Any) -> Any:
    """Return what a node says of D: its kind, and whether BatchNorm takes the batch's statistics."""
    return (type(node), node._saved_training) if hasattr(node, "_saved_training") else type(node)


def _presumed(leaves: Sequence[Tensor], fake: Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
    """Give each leaf the column of its number, where nothing is measured."""
    columns = [(place, column) for place, s in enumerate(fake) for column in range(s[0].numel())]
    if len(columns) == 1:
        columns *= len(leaves)
    if len(columns) != len(leaves):
        raise NotExactError(f"{len(columns)} logits a sample for {len(leaves)} leaves: no ratio is known; {WAY_OUT}")
    return tuple(columns)


def _check_ways(
    leaves: Sequence[Tensor], d_loss: Tensor, g_loss: Tensor, real: Sequence[Tensor], fake: Sequence[Tensor]
) -> None:
    """Raise where a loss sees the leaves otherwise than through the logits."""
    tapped = {id(leaf) for leaf in leaves}
    for name, loss in (("d_loss", d_loss), ("g_loss", g_loss)):
        if tapped & walk([loss], stops=[*real, *fake]).ends.keys():
            raise NotExactError(
                f"{name} depends on the leaf past the logits that were given, as with feature matching, with outputs "
                "computed a second time, or with a joint batch that was taken apart after the loss: give the very "
                f"tensors that it is computed from, or {WAY_OUT}"
            )
    if not tapped & walk(fake).ends.keys():
        raise InputError("the second of logits must be D's outputs on the leaf: these do not depend on it")
    nodes = walk([d_loss]).nodes
    if any(s.grad_fn not in nodes for s in fake):
        raise InputError(
            "d_loss is not computed from the fake logits that were given: give the very tensors that it is"
        )


def _measure(
    leaves: Sequence[Tensor],
    d_loss: Tensor,
    g_loss: Tensor,
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    floor: float | None,
    *,
    thorough: bool,
) -> tuple[tuple[int, int], ...] | None:
    draws = torch.Generator(leaves[0].device).manual_seed(0)  # no draw of the user's own
    if real and any(x.any() for x in _pulled(leaves, real, [_signs(r, draws) for r in real])):
        raise NotExactError(
            "real logits depend on the fakes, so the real data's loss would leak into G: D mixes the samples of a "
            f"joint batch (BatchNorm, minibatch-stddev); call it on real data and on the leaf apart, or {WAY_OUT}"
        )
    of_leaves, objection = _columns_of(leaves, fake, draws, thorough=thorough)
    if objection is None:
        for s in fake:
            if floor is None:
                refuse_float16(s.dtype)
        _check_numbers(leaves, d_loss, g_loss, fake, of_leaves, floor)
        return of_leaves
    why_not = _why_not_constant(d_loss, g_loss, real, fake, draws)
    if why_not is None:
        return None
    raise NotExactError(f"one backward pass is not exact here: {objection}, and {why_not}; {WAY_OUT}")


def _pulled(leaves: Sequence[Tensor], at: Sequence[Tensor], directions: Sequence[Tensor]) -> list[Tensor]:
    """Send directions at some of D's outputs back to the leaves; the graph is kept."""
    return list(
        torch.autograd.grad(list(at), list(leaves), list(directions), retain_graph=True, materialize_grads=True)
    )


def _columns_of(
    leaves: Sequence[Tensor], fake: Sequence[Tensor], draws: torch.Generator, *, thorough: bool
) -> tuple[tuple[tuple[int, int], ...], str | None]:
    """Return the column of logits that each leaf meets, or why there is no such thing."""
    rows = len(leaves[0]) if leaves[0].ndim else 0
    for x in (*leaves, *fake):
        if x.ndim == 0 or len(x) != rows:
            return (), (
                f"leaves and logits do not have a row for each sample ({', '.join(str(tuple(t.shape)) for t in leaves)}"
                f" and {', '.join(str(tuple(t.shape)) for t in fake)})"
            )
    columns = [(place, column) for place, s in enumerate(fake) for column in range(s[0].numel())]
    if len(columns) > len(leaves):
        return (), f"D gives {len(columns)} logits a sample (PatchGAN, U-Net, auxiliary heads) for {len(leaves)} leaves"
    touching: list[list[tuple[int, int]]] = [[] for _ in leaves]
    for place, column in columns:
        directions = [torch.zeros(len(s), s[0].numel(), dtype=s.dtype, device=s.device) for s in fake]
        directions[place][:, column] = _signs(directions[place][:, column], draws)
        directions = [direction.view_as(s) for direction, s in zip(directions, fake, strict=True)]
        for touched, gradient in zip(touching, _pulled(leaves, fake, directions), strict=True):
            if gradient.any():
                touched.append((place, column))
    for number, touched in enumerate(touching):
        if len(touched) != 1:
            found = f"meets {len(touched)} logits a sample" if touched else "moves no logit (is D saturated?)"
            return (), f"leaf {number} {found}"
    order = torch.arange(rows) if thorough else torch.randperm(rows, generator=torch.Generator().manual_seed(rows))
    bits = range(max(1, (rows - 1).bit_length()) if thorough else 1)
    for bit in bits:
        for side in (0, 1):
            chosen = ((order >> bit) & 1 == side).to(leaves[0].device)
            directions = [_signs(s, draws) * chosen.view(-1, *[1] * (s.ndim - 1)) for s in fake]
            for gradient in _pulled(leaves, fake, directions):
                if gradient[~chosen].any():
                    return (), "D mixes samples, as BatchNorm and minibatch-stddev do"
    return tuple(touched[0] for touched in touching), None


def _signs(like: Tensor, draws: torch.Generator) -> Tensor:
    """Return numbers of a tensor's shape, 1 or -1: their size is lost in no type."""
    return torch.randint(0, 2, like.shape, generator=draws, device=like.device).to(like.dtype) * 2 - 1


TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-2}


def _check_numbers(
    leaves: Sequence[Tensor],
    d_loss: Tensor,
    g_loss: Tensor,
    fake: Sequence[Tensor],
    of_leaves: Sequence[tuple[int, int]],
    floor: float | None,
) -> None:
    """Raise where a floored carrier is lost on its way through D, as in float16, or the way back is not linear."""
    of_g = derivatives(g_loss, fake)
    direct = _pulled(leaves, fake, of_g)
    least = [(floor or RELATIVE_FLOOR.get(s.dtype, 1e-8)) for s in fake]
    carried = _pulled(leaves, fake, [g * low for g, low in zip(of_g, least, strict=True)])
    for leaf, (place, _), expected, found in zip(leaves, of_leaves, direct, carried, strict=True):
        expected, found = at_least_float32(expected), at_least_float32(found) / least[place]
        if not expected.isfinite().all():
            return  # of a step that diverges nothing can be told
        allowed = TOLERANCE.get(min(leaf.dtype, fake[place].dtype, key=lambda t: torch.finfo(t).bits), 0.1)
        if (expected - found).norm() > allowed * expected.norm():
            raise NotExactError(
                f"a gradient of {least[place]:g} times its size does not come back through D in proportion, as where D "
                "computes in float16: give a larger floor= (1e-3 for float16), let D compute in bfloat16 or float32, "
                f"or {WAY_OUT}"
            )


ANALYTIC = frozenset(
    (  # fmt: skip
        "Add",
        "Alias",
        "AsStrided",
        "BinaryCrossEntropyWithLogits",
        "Cat",
        "Clone",
        "Div",
        "Expand",
        "Exp",
        "Flatten",
        "Log",
        "Log1P",
        "LogSigmoid",
        "Logaddexp",
        "Mean",
        "MseLoss",
        "Mul",
        "Neg",
        "Permute",
        "Pow",
        "ReshapeAlias",
        "Rsub",
        "Select",
        "Sigmoid",
        "Slice",
        "Softplus",
        "Split",
        "Squeeze",
        "Stack",
        "Sub",
        "Sum",
        "T",
        "Tanh",
        "ToCopy",
        "Transpose",
        "Unbind",
        "UnsafeView",
        "Unsqueeze",
        "View",
    )
)
"""Autograd's names of functions without a kink: what holds of them on some logits' neighbourhood holds everywhere."""


def _why_not_constant(
    d_loss: Tensor, g_loss: Tensor, real: Sequence[Tensor], fake: Sequence[Tensor], draws: torch.Generator
) -> str | None:
    """Say why dL_G/ds is not known to be one multiple of dL_D/ds at all logits; None if it is.

    On one batch the hinge loss looks symmetric as long as no fake is below -1. So the losses must be made of analytic
    functions, and dL_G/ds - k dL_D/ds must vanish with its derivative.
    """
    both = [*real, *fake]
    names = {
        type(node).__name__.rstrip("0123456789").removesuffix("Backward") for node in _between(d_loss, g_loss, both)
    }
    of_d, of_g = (derivatives(loss, fake, create_graph=True) for loss in (d_loss, g_loss))
    ratio = constant_ratio(of_d, of_g).detach()
    varies = "dL_G/ds is no constant multiple of dL_D/ds"
    tolerance = 1e-9 if fake[0].dtype == torch.float64 else 1e-3
    rest = [g - ratio.to(c.dtype) * c for c, g in zip(of_d, of_g, strict=True)]
    if _size(rest) > tolerance * _size(of_g):
        return varies
    second = [x for x, g in zip(rest, of_g, strict=True) if x.requires_grad and g.requires_grad]
    if second:
        directions = [_signs(x, draws) for x in second]
        total = sum((x * v).sum() for x, v in zip(second, directions, strict=True))
        scale = sum((g * v).sum() for g, v in zip((g for g in of_g if g.requires_grad), directions, strict=True))
        if _size(derivatives(total, both)) > tolerance * _size(derivatives(scale, both)):  # type: ignore[arg-type]
            return varies
    if kinks := names - ANALYTIC:
        return (
            f"dL_G/ds is a constant multiple of dL_D/ds on this batch, but perhaps not on others: the losses hold "
            f"{', '.join(sorted(kinks))}"
        )
    return None


def _function_of(node: Any) -> str:
    """Return the name of what a node differentiates; a product with a tensor of numbers, as of a mask, is no `Mul`."""
    name = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
    factors = (getattr(node, "_saved_self", None), getattr(node, "_saved_other", None)) if name == "Mul" else ()
    masked = any(f is not None and f.numel() > 1 and not f.requires_grad for f in factors)
    return "Mul by a tensor" if masked else name


def _between(d_loss: Tensor, g_loss: Tensor, logits: Sequence[Tensor]) -> list[Any]:
    """Return the nodes of both losses that a logit's gradient meets."""
    found = walk([d_loss, g_loss], stops=logits)
    return [node for node in found.nodes if not hasattr(node, "variable")]


def _size(tensors: Sequence[Tensor]) -> float:
    return max((x.detach().abs().max().item() for x in tensors if x.numel()), default=0.0)
