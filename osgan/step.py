"""What the training schemes share: how a batch is made, what goes through D, what comes back, and the updates."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from osgan import checks
from osgan.augmentation import Augmentation
from osgan.errors import InputError
from osgan.latent import Latent
from osgan.limits import check_clip, check_count, check_critic_steps
from osgan.losses import AdversarialLoss, as_loss
from osgan.measured import Labels
from osgan.normalization import GradientNormalization
from osgan.regularizers.base import Regularizer
from osgan.scoring import Forward
from osgan.sending import Sending, StepStats

__all__ = ["Labels", "Options", "Scheme", "StepStats", "frozen"]


class Options(TypedDict):
    """The keywords of a scheme; see `Scheme`."""

    loss: str | AdversarialLoss
    latent: Latent
    regularizers: NotRequired[Sequence[Regularizer]]
    n_critic: NotRequired[int]
    augmentation: NotRequired[Augmentation | None]
    generator_clip: NotRequired[float | None]
    discriminator_clip: NotRequired[float | None]
    accumulate: NotRequired[int]
    normalization: NotRequired[GradientNormalization | None]


class Scheme(Sending):
    """One training step of G and D: `step(real)` or `step(real, labels)`, real (N, C, H, W) in [-1, 1], labels (N,).

    With `n_critic` k above 1, D is updated k - 1 times alone before the step of both, whose update of D is the k-th:
    real is then (k * N, C, H, W), a fresh batch for each, the step's own the last; G makes N fakes at a time.

    G is called as `G(z)` or `G(z, labels)`, D as `D(x)` or `D(x, labels)`; D returns its logits, any shape with N rows.
    A G that makes S images of a sample, (N, S, C, H, W), goes with a D that takes these and gives (N, S) logits; D is
    then given every real image S times.
    The optimizers must hold all trainable weights of their network and none of the other's.
    The first step measures the networks and the loss (`prepare`), as does the first step after a module of either
    network went into another mode, train or evaluation, or images came in another shape or type; real and fake images
    then share a batch when D is sample-wise and `joint_batch` holds, and else go through D one after the other.
    A step begins by clearing the gradients of the player it updates. `G` and `D` are what is called to
    go forward, the networks themselves unless an engine (`osgan.training.engine`) puts faster callables with the same
    weights there, or `osgan.distribute` ones that average gradients over processes; penalties that differentiate
    twice call `penalised`, but where D is called as it is they are taken from the forward pass of the loss.

    Args:
        generator: Latents, as `latent` gives them, and labels to images (N, C, H, W).
        discriminator: Images (N, C, H, W) and labels to logits.
        generator_optimizer: Holds all trainable weights of G and nothing of D.
        discriminator_optimizer: Holds all trainable weights of D and nothing of G.
        loss: The name of one of `osgan.losses.LOSSES`, or a loss of one's own.
        latent: Called with N and a device, gives the N latents of G, such as `osgan.Gaussian(100)`.
        regularizers: Penalties on D and limits of its weights.
        n_critic: Updates of D a step, 1 or more.
        augmentation: What D sees real and generated images through, such as `osgan.DiffAugment()`; one draw serves both
            ways a fake is used. None for nothing.
        generator_clip: The largest norm of all of G's gradient that its optimizer is given; None for any.
        discriminator_clip: The same of D's.
        accumulate: Equal parts of a batch that go through the networks one after the other, and whose gradients add up.
        normalization: Of what arrives at the generated images on its way to G; None for none.

    Raises:
        InputError: For networks, optimizers, a loss or an option that cannot be used.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        *,
        loss: str | AdversarialLoss,
        latent: Latent,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        augmentation: Augmentation | None = None,
        generator_clip: float | None = None,
        discriminator_clip: float | None = None,
        accumulate: int = 1,
        normalization: GradientNormalization | None = None,
    ) -> None:
        check_critic_steps(n_critic)
        check_count("accumulate", accumulate, least=1)
        check_clip("generator_clip", generator_clip)
        check_clip("discriminator_clip", discriminator_clip)
        checks.check_networks(generator, discriminator)
        checks.check_optimizers(generator, discriminator, generator_optimizer, discriminator_optimizer)
        self.generator = generator
        self.discriminator = discriminator
        self.G: Forward = generator
        self.D: Forward = discriminator
        self.penalised = getattr(discriminator, "_orig_mod", discriminator)  # a compiled one cannot differentiate twice
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.loss = as_loss(loss)
        self.latent = latent
        self.regularizers = tuple(regularizers)
        self.n_critic = n_critic
        self.augmentation = augmentation
        self.generator_clip = generator_clip
        self.discriminator_clip = discriminator_clip
        self.accumulate = accumulate
        self.normalization = normalization
        for state in (augmentation, normalization):
            if state is not None and (weight := next(generator.parameters(), None)) is not None:
                state.to(weight.device)
        self.num_steps = 0
        super().__init__()

    def __call__(self, real: Tensor, labels: Tensor | None = None) -> StepStats:
        """Update G once and D `n_critic` times; returns both mean losses as they were before the last updates.

        Raises InputError for networks, images or labels that do not go together, before anything has moved.
        """
        if not torch.is_grad_enabled():
            raise InputError("a step needs gradients: call it outside torch.no_grad() and torch.inference_mode()")
        given = () if labels is None else (labels,)
        if self.is_stale(real):
            self.measure(real, given)
        stats = self.update(real, given)
        self.num_steps += 1
        return stats

    @property
    def local_D(self) -> Forward:
        """D as it is called where nobody wants its weights' gradients: no process waits for the others'."""
        return self.D.module if isinstance(self.D, DistributedDataParallel) else self.D

    def due(self) -> tuple[Regularizer, ...]:
        """Return the regularizers that the next step is to apply: those of an interval take part now and then."""
        return tuple(r for r in self.regularizers if self.num_steps % r.every == 0)

    @property
    def period(self) -> int:
        """Steps after which the same regularizers are due again."""
        return math.lcm(*(r.every for r in self.regularizers))

    def update(self, real: Tensor, labels: Labels) -> StepStats:
        """Take the critic steps and then the scheme's step, each on its part of the batch; `prepare` comes first."""
        size, left = divmod(real.shape[0], self.n_critic)
        if left or not size:
            raise InputError(
                f"with n_critic {self.n_critic} a step takes {self.n_critic} batches in one: {real.shape[0]} images "
                f"are no multiple of {self.n_critic}"
            )
        *critic, last = zip(real.split(size), *(y.split(size) for y in labels), strict=True)
        for images, *theirs in critic:
            self.critic_step(images, tuple(theirs))
        return self.step(last[0], last[1:])

    def critic_step(self, real: Tensor, labels: Labels) -> None:
        """Update D alone, on fakes that carry no graph; the same in every scheme."""
        self.discriminator_optimizer.zero_grad()

        def take(real: Tensor, labels: Labels) -> StepStats:
            with torch.no_grad():
                batch = self.show(real, self.generate(real, labels), labels)
            return self.send_to_discriminator(batch)

        self.over_parts(take, real, labels)
        self.update_discriminator()

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Do the scheme's step on one batch (N, C, H, W)."""
        raise NotImplementedError

    def over_parts(self, take: Callable[..., Any], real: Tensor, labels: Labels) -> list[Any]:
        """Return what `take` gives for each part of the batch whose gradients add up, `accumulate` of them."""
        parts = self.parts(real, labels, self.accumulate, f"accumulate={self.accumulate}")
        found = []
        for place, (images, theirs) in enumerate(parts):
            with self.unreduced() if place < len(parts) - 1 else nullcontext():
                found.append(take(images, theirs))
        return found

    def parts(self, real: Tensor, labels: Labels, number: int, who: str) -> list[tuple[Tensor, Labels]]:
        """Return so many equal parts of a batch, as D sees it: each image once, or at every scale."""
        size, left = divmod(len(real), number)
        if left or not size:
            raise InputError(
                f"{who} takes a batch in {number} equal parts: {len(real)} images are no multiple of {number}"
            )
        real = real if self.scales is None else real.unsqueeze(1).expand(-1, self.scales, *real.shape[1:])
        if number == 1:
            return [(real, labels)]
        split = zip(real.split(size), *(y.split(size) for y in labels), strict=True)
        return [(images, tuple(theirs)) for images, *theirs in split]

    @contextmanager
    def unreduced(self) -> Iterator[None]:
        """Let gradients stay this process's own while the context lasts, where several share a step."""
        with ExitStack() as stack:
            for forward in (self.G, self.D):
                if isinstance(forward, DistributedDataParallel):
                    stack.enter_context(forward.no_sync())
            yield

    def update_discriminator(self) -> None:
        """Take the step of D's optimizer, then what the regularizers do after it."""
        if self.discriminator_clip is not None:
            clip_grad_norm_(self.discriminator.parameters(), self.discriminator_clip)
        self.discriminator_optimizer.step()
        for regularizer in self.due():
            regularizer.after_step(self.discriminator)

    def update_generator(self) -> None:
        """Take the step of G's optimizer."""
        if self.generator_clip is not None:
            clip_grad_norm_(self.generator.parameters(), self.generator_clip)
        self.generator_optimizer.step()

    def tensors(self) -> list[Tensor]:
        """Return what a step changes beside weights and optimizers: of the augmentation, of normalised gradients."""
        of_augmentation = [] if self.augmentation is None else self.augmentation.tensors()
        return [*of_augmentation, *([] if self.normalization is None else self.normalization.tensors())]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Ask for no gradients of the module's weights while the context lasts."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
