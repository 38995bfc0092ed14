"""How a user's losses hang together: walks over autograd's graphs, and errors for what would send a gradient astray.

Which weights a loss reaches, and on which way. Both losses through D are followed in every step: a node costs about a
microsecond.
"""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves

from osgan.errors import InputError

Node = Any
"""Of autograd's graph: a tensor's grad_fn, or the accumulator of a leaf."""


class Graph(NamedTuple):
    """What a backward pass from some tensors meets."""

    nodes: dict[Node, None]
    """In the order met, the same for graphs that are built alike."""
    ends: dict[int, Tensor]
    """The leaves, weights among them, by their identity."""


def tensors(tree: Any) -> list[Tensor]:
    """Return the tensors of any nesting of lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)] if tree is not None and tree != () else []


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
    memory: "Memory"


class Memory:
    """What is kept of a D as long as its first weight lives."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weakref.ref(weight)
        self.steps = 0
        self.graphs: dict[Any, Any] = {}
        """What `osgan.exactness` knows of each graph that D makes."""

    @classmethod
    def of(cls, weight: Tensor) -> "Memory":
        """Return the memory of the D whose first weight this is."""
        memory = _memories.get(id(weight))
        if memory is None or memory.weight() is not weight:
            for key in [key for key, old in _memories.items() if old.weight() is None]:
                del _memories[key]
            memory = _memories[id(weight)] = cls(weight)
        return memory


_memories: dict[int, Memory] = {}


def is_due(steps: int) -> bool:
    """Whether a step after so many others is looked at closely: after 0, 1, 2, 4, 8, ..."""
    return steps & (steps - 1) == 0


def check_wiring(
    leaves: Sequence[Tensor], fakes: Sequence[Tensor], d_loss: Tensor, g_loss: Tensor, extra: Sequence[Tensor]
) -> Wiring:
    """Return the step's wiring; raises InputError where a loss goes another way than `osgan.backward` sends it.

    In every step both losses through D are followed as far as the fakes; after 0, 1, 2, 4, 8, ... steps of a D the
    others too, and all through G.
    """
    of_d = walk([d_loss])
    of_g = walk([g_loss], known=of_d)
    tapped = set(map(id, leaves))
    d_weights = [end for key, end in of_d.ends.items() if key not in tapped]
    if not d_weights:
        raise InputError(
            "no weight that d_loss reaches wants a gradient: D is frozen; call its requires_grad_(True) before it goes "
            "forward (loops that freeze D while G is updated need not do so any more)"
        )
    memory = Memory.of(d_weights[0])
    of_generator = _of_generator(leaves, fakes, extra, of_d) if is_due(memory.steps) else set()
    memory.steps += 1
    if any(fake.grad_fn in of_d.nodes for fake in fakes) or of_generator & of_d.ends.keys():
        raise InputError(
            "d_loss reaches the generator: D's loss would move it too. Call D on the leaf that osgan.tap returned and "
            f"not on the fake, and detach what else of the generator D is given{_example(of_generator, of_d)}"
        )
    if any(fake.grad_fn in of_g.nodes for fake in fakes) or of_generator & of_g.ends.keys():
        raise InputError(
            "g_loss reaches the generator past D: give those of its terms that do not go through D (reconstruction, "
            "perceptual, codebook losses) as extra=, leave them out of g_loss, and call D on the leaf that osgan.tap "
            f"returned and not on the fake{_example(of_generator, of_g)}"
        )
    return Wiring(of_d, of_g, d_weights, memory)


def _of_generator(leaves: Sequence[Tensor], fakes: Sequence[Tensor], extra: Sequence[Tensor], of_d: Graph) -> set[int]:
    """Return G's weights; raises InputError for an extra loss that goes through D."""
    of_extra = walk(extra, stops=fakes)
    weights = _weights(of_extra.ends)
    if set(map(id, leaves)) & of_extra.ends.keys():
        raise InputError(
            "extra goes through D, or is computed from the leaf: a term through D (feature matching) belongs into "
            f"g_loss; others are computed from the fake itself, which still has its graph{fused(of_extra)}"
        )
    if weights & of_d.ends.keys():
        raise InputError(
            "extra reaches weights of D, which it would move: a term through D belongs into g_loss, computed from D's "
            f"outputs on the leaf{_example(weights, of_d)}"
        )
    return weights | _weights(walk(fakes).ends)


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
