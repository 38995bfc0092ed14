"""The training schemes: OneStage (OSGAN paper, algorithm 1) and what it is compared with, behind one signature.

The difference between the classes is the method. A step waits for nothing on the device; data, logs, checkpoints and
schedules are other people's business.
"""

from contextlib import nullcontext
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.decomposition import decompose
from osgan.errors import NotExactError
from osgan.losses import LossStructure
from osgan.passes import one_pass, onward, send, tap, two_passes
from osgan.scoring import Batch, Scored, Slopes, approximate_of
from osgan.sending import StepStats, mean_of
from osgan.step import Labels, Options, Scheme, frozen
from osgan.structure import Structure


class _AtOnce(Scheme):
    """Both players' gradients at the same weights, from one forward pass; then both updates."""

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Take both gradients, then update both."""
        self.generator_optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()
        stats = self.over_parts(self.send_to_both, real, labels)
        self.update_discriminator()
        self.update_generator()
        return mean_of(stats)

    def send_to_both(self, real: Tensor, labels: Labels) -> StepStats:
        """Add the gradients of both players on a part of the batch to theirs."""
        fake = self.generate(real, labels)
        leaf = tap(fake)
        arrived, stats = self.to_fakes(self.show(real, leaf, labels))
        onward([leaf], [arrived], self.extra(fake), self.at_image)
        return stats

    def to_fakes(self, batch: Batch) -> tuple[Tensor, StepStats]:
        """Add D's gradient on a batch to its own; return G's as it arrives at the fakes, a leaf, and the losses."""
        self.penalise(batch)
        scored = self.score(batch)
        slopes, stats = self.differentiate(scored, len(batch.real))
        if scored.slope is not None:
            # A penalty at the fakes has found ds/dx there: times dL_G/ds it is G's gradient, with no way through D.
            with scored.backward():
                send(scored.roots, slopes.at_roots(), inputs=self.discriminator_weights)
            arrived = per_image(slopes.generator, batch.fake) * scored.slope
        else:
            arrived = self.through(batch.fake, scored, slopes)
        self.observe(scored)
        return arrived, stats

    def through(self, leaf: Tensor, scored: Scored, slopes: Slopes) -> Tensor:
        """Send the derivatives at the logits through D; return what arrives at the leaf, G's gradient."""
        raise NotImplementedError


class OneStage(_AtOnce):
    """One forward and one backward update both; exact for a sample-wise D, and for any D if the loss is symmetric."""

    def refuse(self, structure: Structure) -> None:
        """Raise NotExactError, with the way out, where one backward pass cannot carry both gradients."""
        super().refuse(structure)
        of_loss = self.loss_structure
        if any(penalty.at_fake for penalty in approximate_of(self.regularizers)):
            of_loss = LossStructure(None, of_loss.paired)  # the penalty at the fakes is D's alone
        if objection := structure.objection(self.loss, of_loss):
            raise NotExactError(f"one-stage training is not exact here: {objection}")

    def through(self, leaf: Tensor, scored: Scored, slopes: Slopes) -> Tensor:
        """Send the carrier through D once; scale what arrives at the fakes to G's gradient."""
        ratio: float | Tensor | None = self.loss_structure.constant_ratio
        carrier = slopes.fake
        if ratio is None or any(penalty.at_fake for penalty in approximate_of(self.due())):
            carrier, ratios = decompose(slopes.fake, slopes.generator, scored.fake.dtype)
            ratio = per_image(ratios, leaf)
        inputs = [*self.discriminator_weights, leaf] if scored.terms else None
        with scored.backward():
            (arrived,) = one_pass([leaf], scored.roots, slopes.at_roots(carrier), [ratio], inputs)
        return arrived


class Simultaneous(_AtOnce):
    """One forward, two backward passes through D at the same weights; exact for any D and loss."""

    def score(self, batch: Batch, *, apart: bool = True) -> Scored:
        """Never in a joint batch: G's gradient would then be sent back through the real half as well."""
        return super().score(batch, apart=apart)

    def through(self, leaf: Tensor, scored: Scored, slopes: Slopes) -> Tensor:
        """Send each player's derivatives through D on their own."""
        of_d = scored.roots, slopes.at_roots(), self.discriminator_weights
        with scored.backward():
            (arrived,) = two_passes([leaf], [scored.fake], [slopes.generator], *of_d)
        return arrived


class TwoStage(Scheme):
    """Alternating descent: D's update, then G's against the D that has just moved.

    `fresh_fakes` draws new fakes for G's update, else those of D's update serve again, seen in the same way. `freeze`
    asks for no gradients of D in G's update, else they are computed and thrown away; with fresh fakes it also makes D's
    without a graph. A paired loss scores the real images again, without a graph, for G's update.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        *,
        fresh_fakes: bool = True,
        freeze: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(generator, discriminator, generator_optimizer, discriminator_optimizer, **options)
        self.fresh_fakes = fresh_fakes
        self.freeze = freeze

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Update D, then G."""
        shown: list[Batch] = []

        def for_discriminator(real: Tensor, labels: Labels) -> StepStats:
            with torch.set_grad_enabled(not (self.freeze and self.fresh_fakes)):
                fake = self.generate(real, labels)
            shown.append(self.show(real, fake, labels))
            return self.send_to_discriminator(shown[-1])

        self.discriminator_optimizer.zero_grad()
        of_discriminator = mean_of(self.over_parts(for_discriminator, real, labels))
        self.update_discriminator()

        batches = iter(shown)

        def for_generator(real: Tensor, labels: Labels) -> tuple[StepStats, list[Tensor], list[Tensor | None]]:
            batch = next(batches)
            if not self.fresh_fakes:
                return self.for_generator(batch)
            batch = self.show(real, self.generate(real, labels), labels, see_real=batch.see_real)
            stats, roots, gradients = self.for_generator(batch)
            send(roots, gradients)
            return stats, [], []

        self.generator_optimizer.zero_grad()
        with frozen(self.discriminator) if self.freeze else nullcontext():
            found = self.over_parts(for_generator, real, labels)
            if not self.fresh_fakes:
                # In one backward pass: G went forward before the first of them, where several processes would reduce.
                send([root for _, roots, _ in found for root in roots], [g for *_, of_roots in found for g in of_roots])
        self.update_generator()
        of_generator = mean_of([stats for stats, *_ in found])
        return StepStats(of_discriminator.discriminator_loss, of_generator.generator_loss)

    def for_generator(self, batch: Batch) -> tuple[StepStats, list[Tensor], list[Tensor | None]]:
        """Return the losses of a batch, where G's gradient starts, and with which derivatives."""
        fake = batch.fake
        if self.normalization is not None:
            fake.register_hook(lambda gradient: self.at_image(gradient) * gradient)
        fake_logits = self.local_D(batch.seen(fake, at_fake=True), *batch.labels).flatten()
        real_logits = fake_logits  # stands in where G's loss does not read it
        if self.loss_structure.paired:
            with torch.no_grad():
                real_logits = self.local_D(batch.seen(batch.real, at_fake=False), *batch.labels).flatten()
        slopes, stats = self.differentiate(Scored(real_logits, fake_logits), len(batch.real), due=())
        extra = self.extra(batch.fake)
        return stats, [fake_logits, *extra], [slopes.generator, *[None] * len(extra)]


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Return a number for each image, flat, in a shape that multiplies images (N, ...), or (N, S, ...) of several."""
    axes = 1 if values.numel() == len(images) else 2
    return values.view(*images.shape[:axes], *[1] * (images.ndim - axes))
