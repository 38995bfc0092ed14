"""What goes through D for an update of it, and the derivatives that come back at its logits.

Real images and fakes, and the images that approximate penalties move, each seen through one draw of an augmentation;
exact penalties at the same images are taken from the same forward pass. What is sent back through D is then a number
for each logit, and a scalar for each exact penalty.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from osgan.augmentation import Drawn
from osgan.losses import AdversarialLoss, at_least_float32
from osgan.regularizers.approximate import ApproximatePenalty
from osgan.regularizers.base import Regularizer
from osgan.regularizers.gradient import InputGradientPenalty, twice_differentiable

Forward = Callable[..., Tensor]
Labels = tuple[Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """Images of one update of D, and how it sees them."""

    real: Tensor
    fake: Tensor
    labels: Labels
    see_real: Drawn | None = None
    """One draw of the augmentation, for the real images; None for none."""
    see_fake: Drawn | None = None

    def with_fake(self, fake: Tensor) -> "Batch":
        """Return the batch with other fakes, seen in the same way."""
        return replace(self, fake=fake)

    def images(self, at_fake: bool) -> Tensor:
        """Return the images of a side."""
        return self.fake if at_fake else self.real

    def seen(self, images: Tensor, at_fake: bool) -> Tensor:
        """Return the first images of a side, or what was made of them, as D sees them."""
        see = self.see_fake if at_fake else self.see_real
        if see is None:
            return images
        return see(images) if len(images) == len(self.real) else see.first(len(images))(images)


class Scored(NamedTuple):
    """What D gave."""

    real: Tensor
    """Logits, flat, as all of these."""
    fake: Tensor
    moved: tuple[Tensor, ...] = ()
    """Of the images that each approximate penalty moved."""
    terms: tuple[Tensor, ...] = ()
    """Exact penalties from this forward pass, scalars: of D's weights alone."""
    slope: Tensor | None = None
    """The derivative of the sum of the fake logits at the fakes, where a penalty has taken it; it carries no graph."""

    def backward(self) -> AbstractContextManager[None]:
        """Return the context of a backward pass: that of the forward pass, which checkpointing repeats."""
        return twice_differentiable() if self.terms else nullcontext()

    @property
    def roots(self) -> list[Tensor]:
        """Where D's gradient starts."""
        return [self.real, self.fake, *self.moved, *self.terms]


class Slopes(NamedTuple):
    """Derivatives of what the players minimise at the logits, in float32 or better."""

    real: Tensor
    """dL_D/d(real logit)"""
    fake: Tensor
    """dL_D/d(fake logit), what one-stage training carries through D"""
    moved: tuple[Tensor, ...]
    """dL_D/d(logit of a moved image)"""
    generator: Tensor
    """dL_G/d(fake logit)"""
    num_terms: int

    def at_roots(self, fake: Tensor | None = None) -> list[Tensor | None]:
        """Return D's derivatives at `Scored.roots`, with another carrier at the fakes if one is given."""
        return [self.real, self.fake if fake is None else fake, *self.moved, *[None] * self.num_terms]


def score(
    D: Forward, batch: Batch, due: Sequence[Regularizer], exact: Sequence[InputGradientPenalty], way: str
) -> Scored:
    """Take D forward on a batch and on what the approximate penalties of `due` move; `exact` are taken on the way.

    `way` is `joint` for one call of D, `sides` for one with all real and one with all generated images, `apart` for one
    with each. Only a D that keeps samples apart takes the first two, and `exact`.
    """
    approximate = approximate_of(due)
    sides = {penalty.at_fake for penalty in exact}
    real, fake = batch.real, batch.fake
    if False in sides:
        real = real.detach().requires_grad_()
    if True in sides:
        # Of the real images' type: a G under autocast makes fakes in bfloat16, and a second derivative wants float32.
        fake = fake.to(real.dtype) if fake.requires_grad else fake.to(real.dtype).detach().requires_grad_()
    asked = [(real, False), (fake, True)]
    asked += [(penalty.moved(batch.images(penalty.at_fake)), penalty.at_fake) for penalty in approximate]
    if way == "joint" and len(sides) == 1:
        way = "sides"  # or the other side's images would be differentiated twice too
    with twice_differentiable() if exact else nullcontext():
        logits = _through(D, batch, asked, way)
        terms, slope = _exact(exact, logits[:2], (real, fake))
    return Scored(logits[0], logits[1], tuple(logits[2:]), terms, slope)


def _through(D: Forward, batch: Batch, asked: Sequence[tuple[Tensor, bool]], way: str) -> list[Tensor]:
    """Return the flat logits of each of the images."""
    places_of: dict[bool, list[int]] = {False: [], True: []}
    for place, (_, at_fake) in enumerate(asked):
        places_of[at_fake].append(place)
    groups = {
        "joint": [list(range(len(asked)))],
        "sides": list(places_of.values()),
        "apart": [[place] for place in range(len(asked))],
    }[way]
    found: dict[int, Tensor] = {}
    for places in groups:
        chosen = [asked[place] for place in places]
        sizes = [len(images) for images, _ in chosen]
        seen = [batch.seen(images, at_fake) for images, at_fake in chosen]
        labels = [torch.cat([y[:size] for size in sizes]) if len(sizes) > 1 else y[: sizes[0]] for y in batch.labels]
        images = torch.cat(seen) if len(seen) > 1 else seen[0]  # in the widest of their types: none is rounded
        logits = D(images, *labels)
        parts = logits.split(sizes) if len(sizes) > 1 else [logits]
        found |= {place: part.flatten() for place, part in zip(places, parts, strict=True)}
    return [found[place] for place in range(len(asked))]


def _exact(
    exact: Sequence[InputGradientPenalty], logits: Sequence[Tensor], images: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Return the exact penalties and the slope at the fakes."""
    if not exact:
        return (), None
    sides = sorted({penalty.at_fake for penalty in exact})
    total = torch.stack([at_least_float32(s).sum() for s in logits]).sum()
    found = torch.autograd.grad(total, [images[at_fake] for at_fake in sides], create_graph=True)
    gradients = dict(zip(sides, found, strict=True))
    terms = tuple(penalty.from_gradient(gradients[penalty.at_fake]) for penalty in exact)
    return terms, gradients[True].detach() if True in gradients else None


def approximate_of(due: Sequence[Regularizer]) -> list[ApproximatePenalty]:
    """Return the approximate penalties among them."""
    return [regularizer for regularizer in due if isinstance(regularizer, ApproximatePenalty)]


@torch.no_grad()
def differentiate(
    loss: AdversarialLoss, scored: Scored, due: Sequence[Regularizer], num_images: int, parts: int
) -> Slopes:
    """Return the derivatives of the mean losses, with those of the approximate penalties, over so many parts."""
    real, fake = at_least_float32(scored.real), at_least_float32(scored.fake)
    of_real, of_fake, of_generator = (g / (fake.numel() * parts) for g in loss.gradients(real, fake))
    of_moved = []
    for penalty, moved in zip(approximate_of(due), scored.moved, strict=True):
        here = (fake if penalty.at_fake else real)[: moved.numel()]
        slope = penalty.derivative(here, at_least_float32(moved), penalty.num_moved(num_images)) / parts
        more = torch.nn.functional.pad(slope, (0, fake.numel() - slope.numel()))
        if penalty.at_fake:
            of_fake = of_fake + more
        else:
            of_real = of_real + more
        of_moved.append(-slope)
    return Slopes(of_real, of_fake, tuple(of_moved), of_generator, len(scored.terms))


class Seeing(nn.Module):
    """A network that sees its images through something."""

    def __init__(self, network: nn.Module, see: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.see = see

    def forward(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Return what the network gives."""
        output: Tensor = self.network(self.see(images), *labels)
        return output
