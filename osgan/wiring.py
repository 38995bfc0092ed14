"""How a user's losses hang together: walks over autograd's graphs, and errors for what would send a gradient astray.

Looked at in every step, since a node costs a fifth of a microsecond: which weights a loss reaches, and on which way.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from osgan.errors import InputError

Node = Any
"""Of autograd's graph: a tensor's grad_fn, or the accumulator of a leaf."""


class Graph(NamedTuple):
    """What a backward pass from some tensors meets."""

    nodes: dict[Node, None]
    """In the order met, the same for graphs that are built alike."""
    ends: dict[int, Tensor]
    """The leaves, weights among them, by their identity."""


def walk(roots: Iterable[Tensor], *, stops: Sequence[Tensor] = (), known: Graph | None = None) -> Graph:
    """Follow the graphs back from tensors, not beyond `stops`, and not into what is `known`; a root is never known."""
    closed = {_edge_of(stop) for stop in stops}
    nodes: dict[Node, None] = {}
    ends: dict[int, Tensor] = {}
    passed = known.nodes if known else nodes
    ahead = [edge[0] for root in roots if (edge := _edge_of(root)) not in closed]
    nodes.update(dict.fromkeys(ahead))
    while ahead:
        node = ahead.pop()
        following = node.next_functions
        if not following and (variable := getattr(node, "variable", None)) is not None:
            ends[id(variable)] = variable
        for edge in following:
            onward = edge[0]
            if onward is None or onward in nodes or onward in passed or (closed and edge in closed):
                continue
            nodes[onward] = None
            ahead.append(onward)
    return Graph(nodes, ends)


def _edge_of(tensor: Tensor) -> tuple[Node, int]:
    return get_gradient_edge(tensor)[:2]


def _weights(ends: dict[int, Tensor]) -> set[int]:
    """Return what is a weight, and no image that is differentiated by (penalties)."""
    return {key for key, end in ends.items() if isinstance(end, nn.Parameter)}


class Wiring(NamedTuple):
    """The graphs of one step, found to be in order."""

    of_discriminator: Graph
    of_generator: Graph
    """What G's loss through D has of its own."""
    d_weights: list[Tensor]
    """Of all that D's loss reaches, what is no fake."""


def check_wiring(
    leaves: Sequence[Tensor], fakes: Sequence[Tensor], d_loss: Tensor, g_loss: Tensor, extra: Sequence[Tensor]
) -> Wiring:
    """Return the step's wiring; raises InputError where a loss goes another way than `osgan.backward` sends it."""
    of_d, of_fakes = walk([d_loss]), walk(fakes)
    of_g, of_extra = walk([g_loss], known=of_d), walk(extra, known=of_fakes)
    tapped = set(map(id, leaves))
    of_generator = _weights(of_fakes.ends) | (_weights(of_extra.ends) - of_d.ends.keys())
    on_the_way = {fake.grad_fn for fake in fakes}
    if on_the_way & of_d.nodes.keys() or of_generator & of_d.ends.keys():
        raise InputError(
            "d_loss reaches the generator: D's loss would move it too. Call D on the leaf that osgan.tap returned and "
            f"not on the fake, and detach what else of the generator D is given{_example(of_generator, of_d)}"
        )
    if on_the_way & of_g.nodes.keys() or of_generator & of_g.ends.keys():
        raise InputError(
            "g_loss reaches the generator past D: give those of its terms that do not go through D (reconstruction, "
            "perceptual, codebook losses) as extra=, leave them out of g_loss, and call D on the leaf that osgan.tap "
            f"returned and not on the fake{_example(of_generator, of_g)}"
        )
    if tapped & of_extra.ends.keys():
        raise InputError(
            "extra goes through D, or is computed from the leaf: a term through D (feature matching) belongs into "
            "g_loss; others are computed from the fake itself, which still has its graph"
        )
    if _weights(of_extra.ends) & of_d.ends.keys():
        raise InputError(
            "extra reaches weights of D, which it would move: a term through D belongs into g_loss, computed from D's "
            f"outputs on the leaf{_example(_weights(of_extra.ends), of_d)}"
        )
    d_weights = [end for key, end in of_d.ends.items() if key not in tapped]
    if not d_weights:
        raise InputError(
            "no weight that d_loss reaches wants a gradient: D is frozen; call its requires_grad_(True) before it goes "
            "forward (loops that freeze D while G is updated need not do so any more)"
        )
    return Wiring(of_d, of_g, d_weights)


def blind(leaf: Tensor, number: int) -> InputError:
    """Return the error for a leaf that G's loss does not depend on."""
    return InputError(
        f"g_loss does not depend on leaf {number}, {tuple(leaf.shape)}: compute it from D's outputs on what osgan.tap "
        "returned, not on the fake itself or on a detached copy; tap only what D sees"
    )


def _example(ends: Iterable[int], other: Graph) -> str:
    shared = [other.ends[key] for key in ends if key in other.ends]
    return (f"; reached is a weight {tuple(shared[0].shape)}" if shared else "") + fused(other)


def fused(graph: Graph) -> str:
    """Say that torch.compile may have made one node of what are several ways, where it has made any."""
    if any(type(node).__name__.startswith("CompiledFunction") for node in graph.nodes):
        return "; if torch.compile took the whole step, its parts cannot be told apart: compile G and D alone"
    return ""
