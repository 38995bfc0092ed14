"""Whether one backward pass through D is exact for the losses and logits of a step, measured on the step's own graph.

Two ways it can be. Every leaf meets one column of logits, row by row: then a ratio for each logit undoes what D's loss
sent (section 3 of the paper). Or dL_G/ds is the same multiple of dL_D/ds at every logit, whatever D is. What was
measured is kept with D's weights, for each graph that D was seen to make; measured again after 1, 2, 4, 8, ... steps.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from osgan.decomposition import RELATIVE_FLOOR, refuse_float16
from osgan.errors import InputError, NotExactError
from osgan.losses import at_least_float32
from osgan.proportional import derivatives, signs, why_not_constant
from osgan.wiring import Wiring, fused, is_due, tensors, walk

WAY_OUT = "leave out logits=: two backward passes from the one forward pass are exact for every D and every loss"
MOST_GRAPHS = 64
"""Graphs of one D that are remembered."""
Columns = tuple[tuple[int, int], ...]
"""For each leaf which logits it meets: the number of the tensor, and the column in it."""
NOTHING: Columns = ()
"""Measured where D is saturated or its gradients are not finite."""


is_measuring: ContextVar[bool] = ContextVar("is_measuring", default=False)
"""Whether what is computed is for a measurement, and no part of the step."""


class _Known:
    """What was measured of one graph of D."""

    def __init__(self, of_leaves: Columns | None) -> None:
        self.of_leaves = of_leaves
        self.steps = 0


class Step(NamedTuple):
    """Leaves, losses and logits of a step."""

    leaves: Sequence[Tensor]
    d_loss: Tensor
    g_loss: Tensor
    real: Sequence[Tensor]
    fake: Sequence[Tensor]
    floor: float | None


def know(step: Step, wiring: Wiring, check: bool | None) -> Columns | None:
    """Return which logits the leaves meet, as known of this graph of D, or as measured now; None: one ratio serves all.

    Raises InputError for logits that the losses are not computed from, NotExactError where one pass is not exact.
    """
    graphs = wiring.memory.graphs
    described = tuple(map(_described, (*wiring.of_discriminator.nodes, *wiring.of_generator.nodes)))
    key = (described, tuple((x.shape, x.dtype) for x in (*step.leaves, *step.fake)))
    known = graphs.pop(key, None)
    capturing = step.leaves[0].is_cuda and torch.cuda.is_current_stream_capturing()
    due = known is None or is_due(known.steps)
    if due:
        _check_ways(step, wiring)
    if check is False or (capturing and check is None):
        of_leaves = known.of_leaves if known else _presumed(step)
    elif due or check:
        token = is_measuring.set(True)
        try:
            of_leaves = _measure(step, None if check or known is None else known.steps)
        finally:
            is_measuring.reset(token)
        if of_leaves == NOTHING:
            if known:
                graphs[key] = known
            return known.of_leaves if known else _presumed(step)
    else:
        of_leaves = known.of_leaves
    if check is not False:
        known = known or _Known(of_leaves)
        known.of_leaves, known.steps = of_leaves, known.steps + 1
    if known:
        graphs[key] = known
        if len(graphs) > MOST_GRAPHS:
            del graphs[next(iter(graphs))]
    return of_leaves


def sides(logits: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the real and the fake logits of the pair that `osgan.backward` takes; raises InputError for others."""
    if not isinstance(logits, tuple | list) or len(logits) != 2:
        raise InputError("logits must be the pair (D's outputs on real data, D's outputs on the leaf)")
    real, fake = ([x for x in tensors(side) if x.requires_grad] for side in logits)
    if not fake:
        raise InputError("logits holds no output of D on the leaf that carries a gradient")
    return real, fake


_has_modes: dict[type, bool] = {}


def _described(node: Any) -> Any:
    """Return what a node says of D: its kind, and whether BatchNorm takes the batch's statistics."""
    kind = type(node)
    if kind not in _has_modes:
        _has_modes[kind] = hasattr(node, "_saved_training")
    return (kind, node._saved_training) if _has_modes[kind] else kind


def _columns(fake: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return every column of the logits, by the number of the tensor and its place in it."""
    return [(place, column) for place, s in enumerate(fake) for column in range(s[0].numel())]


def _presumed(step: Step) -> Columns:
    """Give each leaf the column of its number, where nothing is measured."""
    columns = _columns(step.fake)
    if len(columns) == 1:
        columns *= len(step.leaves)
    if len(columns) != len(step.leaves):
        raise NotExactError(
            f"{len(columns)} logits a sample for {len(step.leaves)} leaves: no ratio is known; {WAY_OUT}"
        )
    return tuple(columns)


def _check_ways(step: Step, wiring: Wiring) -> None:
    """Raise where a loss sees the leaves otherwise than through the logits, or does not see them."""
    tapped = set(map(id, step.leaves))
    stops = [*step.real, *step.fake]
    if tapped & walk([step.d_loss, step.g_loss], stops=stops).ends.keys():
        name = "d_loss" if tapped & walk([step.d_loss], stops=stops).ends.keys() else "g_loss"
        raise NotExactError(
            f"{name} depends on the leaf past the logits that were given, as with feature matching, with outputs "
            "computed a second time, or with a joint batch that was taken apart after the loss: give the very "
            f"tensors that it is computed from, or {WAY_OUT}{fused(wiring.of_discriminator)}"
        )
    if any(s.grad_fn not in wiring.of_discriminator.nodes for s in step.fake):
        raise InputError(
            "d_loss is not computed from the fake logits that were given: give the very tensors that it is"
        )


def _measure(step: Step, steps: int | None) -> Columns | None:
    """Return the column of each leaf, None where one ratio serves all, NOTHING where gradients tell nothing.

    `steps` have been measured already; None looks thoroughly.
    """
    if not set(map(id, step.leaves)) & walk(step.fake).ends.keys():
        raise InputError("the second of logits must be D's outputs on the leaf: these do not depend on it")
    draws = torch.Generator(step.leaves[0].device).manual_seed(steps or 0)  # no draw of the user's own
    arriving = _pulled(step.leaves, step.fake, [signs(s, draws) for s in step.fake])
    if not all(x.isfinite().all() and x.any() for x in arriving):
        constant = why_not_constant(step.d_loss, step.g_loss, step.real, step.fake, draws) is None
        return None if constant else NOTHING
    if step.real and any(x.any() for x in _pulled(step.leaves, step.real, [signs(r, draws) for r in step.real])):
        raise NotExactError(
            "real logits depend on the fakes, so the real data's loss would leak into G: D mixes the samples of a "
            "joint batch (BatchNorm, minibatch-stddev), which is then called on real data and on the leaf apart, or "
            f"noised fakes among them are not detached from the leaf; else {WAY_OUT}"
        )
    of_leaves, objection = _columns_of(step.leaves, step.fake, draws, thorough=steps is None)
    if objection is None:
        _check_numbers(step, of_leaves)
        return of_leaves
    why_not = why_not_constant(step.d_loss, step.g_loss, step.real, step.fake, draws)
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
) -> tuple[Columns, str | None]:
    """Return the column of logits that each leaf meets, or why there is no such thing."""
    rows = len(leaves[0]) if leaves[0].ndim else 0
    for x in (*leaves, *fake):
        if x.ndim == 0 or len(x) != rows:
            return (), (
                f"leaves and logits do not have a row for each sample ({', '.join(str(tuple(t.shape)) for t in leaves)}"
                f" and {', '.join(str(tuple(t.shape)) for t in fake)})"
            )
    columns = _columns(fake)
    if len(columns) > len(leaves):
        return (), f"D gives {len(columns)} logits a sample (PatchGAN, U-Net, auxiliary heads) for {len(leaves)} leaves"
    touching: list[list[tuple[int, int]]] = [[] for _ in leaves]
    for place, column in columns:
        directions = [torch.zeros(len(s), s[0].numel(), dtype=s.dtype, device=s.device) for s in fake]
        directions[place][:, column] = signs(directions[place][:, column], draws)
        directions = [direction.view_as(s) for direction, s in zip(directions, fake, strict=True)]
        for touched, gradient in zip(touching, _pulled(leaves, fake, directions), strict=True):
            if gradient.any():
                touched.append((place, column))
    for number, touched in enumerate(touching):
        if len(touched) != 1:
            return (), f"leaf {number} meets {len(touched)} logits a sample"
    order = torch.randperm(rows, generator=draws, device=draws.device)
    # Two rows differ in a bit of their places, so in one of the halvings they are on different sides.
    for bit in range(max(1, (rows - 1).bit_length()) if thorough else 1):
        for side in (0, 1):
            chosen = (order >> bit) & 1 == side
            directions = [signs(s, draws) * chosen.to(s.device).view(-1, *[1] * (s.ndim - 1)) for s in fake]
            for gradient in _pulled(leaves, fake, directions):
                if gradient[~chosen.to(gradient.device)].any():
                    return (), "D mixes samples, as BatchNorm and minibatch-stddev do"
    return tuple(touched[0] for touched in touching), None


TOLERANCE = {64: 1e-8, 32: 1e-2, 16: 0.1}
"""By the bits of the numbers: what is looked for is lost altogether, or by half."""


def _check_numbers(step: Step, of_leaves: Sequence[tuple[int, int]]) -> None:
    """Raise where a floored carrier is lost on its way through D, as in float16, or the way back is not linear."""
    if step.floor is None:
        for s in step.fake:
            refuse_float16(s.dtype)
    of_g = derivatives(step.g_loss, step.fake)
    least = [step.floor or RELATIVE_FLOOR.get(s.dtype, RELATIVE_FLOOR[torch.float32]) for s in step.fake]
    direct = _pulled(step.leaves, step.fake, of_g)
    carried = _pulled(step.leaves, step.fake, [g * low for g, low in zip(of_g, least, strict=True)])
    for leaf, (place, _), expected, found in zip(step.leaves, of_leaves, direct, carried, strict=True):
        expected, found = at_least_float32(expected), at_least_float32(found) / least[place]
        bits = min(torch.finfo(x.dtype).bits for x in (leaf, step.fake[place]))
        if (expected - found).norm() > TOLERANCE[bits] * expected.norm():
            raise NotExactError(
                f"a gradient of {least[place]:g} times its size does not come back through D in proportion, as where D "
                "computes in float16: give a larger floor= (1e-3 for float16), let D compute in bfloat16 or float32, "
                f"or {WAY_OUT}"
            )
