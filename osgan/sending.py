"""What a scheme does with one batch: make fakes, show both to D, score, differentiate, and send gradients to D."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from osgan import checks
from osgan.augmentation import Augmentation, Drawn
from osgan.decomposition import refuse_float16
from osgan.losses import at_least_float32
from osgan.measured import Labels, Measured
from osgan.normalization import GradientNormalization
from osgan.passes import send
from osgan.regularizers.base import Regularizer, trainable
from osgan.regularizers.gradient import R1, R2, InputGradientPenalty
from osgan.scoring import Batch, Forward, Scored, Seeing, Slopes, differentiate, score


class StepStats(NamedTuple):
    """Mean losses of one step, scalars that stay on the device."""

    discriminator_loss: Tensor
    generator_loss: Tensor


class Sending(Measured):
    """The players, with what is called to go forward, and the batch's way to D and back."""

    G: Forward
    D: Forward
    penalised: nn.Module
    joint_batch = True
    augmentation: Augmentation | None
    accumulate: int
    normalization: GradientNormalization | None

    @property
    def num_parts(self) -> int:
        """Equal parts of a batch that go through D one after the other."""
        return self.accumulate

    def due(self) -> tuple[Regularizer, ...]:
        """Return the regularizers that the next step is to apply."""
        raise NotImplementedError

    def generate(self, real: Tensor, labels: Labels) -> Tensor:
        """Make one fake for each real image, with its label; looks at the first ones, which waits for the device."""
        if not self._has_generated:
            fake = checks.first_fakes(self.generator, self.G, self.latent, real, labels)
            self._say(checks.remark_on_range("generated", fake, bounded=False))
            self._has_generated = torch.is_grad_enabled()
            return fake
        return self.G(self.latent(real.shape[0], real.device), *labels)

    def show(self, real: Tensor, fake: Tensor, labels: Labels, *, see_real: Drawn | None = None) -> Batch:
        """Return a batch with a draw of the augmentation for each side, but for the real one if it is given."""
        if self.augmentation is None:
            return Batch(real, fake, labels)
        return Batch(real, fake, labels, see_real or self.augmentation.draw(real), self.augmentation.draw(fake))

    def score(self, batch: Batch, *, apart: bool = False) -> Scored:
        """Return D's logits of a batch; real and fake images share a call if D is sample-wise, and not `apart`."""
        together = self.structure is not None and self.structure.can_share_a_batch
        way = "apart" if not together else "joint" if self.joint_batch and not apart else "sides"
        scored = score(self.D, batch, self.due(), self.taken_on_the_way(), way)
        return scored._replace(terms=tuple(term / self.accumulate for term in scored.terms))

    def taken_on_the_way(self) -> list[InputGradientPenalty]:
        """Return the exact penalties of the next step that the loss's own forward pass serves.

        D has to be called as it is, not compiled or reduced over processes, and to keep samples apart, with a logit
        for each: G's gradient is then what the penalty at the fakes has found there.
        """
        known = self.structure
        if self.D is not self.penalised or known is None or not known.can_share_a_batch or not known.one_logit:
            return []
        return [r for r in self.due() if isinstance(r, R1) and type(r) in (R1, R2)]  # a subclass may go its own way

    def differentiate(
        self, scored: Scored, num_images: int, due: Sequence[Regularizer] | None = None
    ) -> tuple[Slopes, StepStats]:
        """Return the derivatives at the logits of a part of a batch, of so many images, and the losses, on the device.

        `due` are the regularizers that take part, None for all that are. Raises InputError for logits in float16.
        """
        refuse_float16(scored.fake.dtype)
        with torch.no_grad():
            stats = StepStats(*self.loss.means(at_least_float32(scored.real), at_least_float32(scored.fake)))
        due = self.due() if due is None else due
        return differentiate(self.loss, scored, due, num_images, self.accumulate), stats

    def penalise(self, batch: Batch) -> None:
        """Add the gradients of the regularizers that go through D on their own to D's.

        Comes before D's forward pass: the loss's gradient is then added to theirs, and the one reduction over
        processes, which the backward pass after that forward pass makes, is of the sum.
        """
        elsewhere = self.taken_on_the_way()
        for regularizer in self.due():
            if regularizer in elsewhere:
                continue
            seen = partial(batch.seen, at_fake=regularizer.at_fake)
            D = self.penalised if self.augmentation is None else Seeing(self.penalised, seen)
            with self._a_part():
                regularizer.accumulate(D, batch.real, batch.fake.detach(), batch.labels)

    @contextmanager
    def _a_part(self) -> Iterator[None]:
        """Let what is added to D's gradients count as a part of the batch."""
        weights = self.discriminator_weights if self.accumulate > 1 else []
        before = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        yield
        for weight, gradient in zip(weights, before, strict=True):
            part = None if weight.grad is None else weight.grad / self.accumulate
            weight.grad = part if gradient is None else gradient if part is None else gradient.add_(part)

    def send_to_discriminator(self, batch: Batch) -> StepStats:
        """Add the gradient of all that D minimises on a batch to D's; the fakes get none."""
        batch = batch.with_fake(batch.fake.detach())
        self.penalise(batch)
        scored = self.score(batch)
        slopes, stats = self.differentiate(scored, len(batch.real))
        with scored.backward():
            send(scored.roots, slopes.at_roots(), inputs=self.discriminator_weights if scored.terms else None)
        self.observe(scored)
        return stats

    def observe(self, scored: Scored) -> None:
        """Let an adaptive augmentation see the logits of the real images, of a paired loss less those of the fakes."""
        if self.augmentation is not None:
            logits = scored.real - scored.fake if self.loss_structure.paired else scored.real
            self.augmentation.observe(logits.detach().view(-1, self.scales or 1), self.num_parts)

    def at_image(self, gradient: Tensor) -> float | Tensor:
        """Return the factor on G's gradient as it arrives at the images."""
        return 1.0 if self.normalization is None else self.normalization(gradient)

    def extra(self, fake: Tensor) -> list[Tensor]:
        """Return what G minimises past D, as part of the mean over the parts of a batch."""
        terms = (regularizer.of_generator(fake) for regularizer in self.due())
        return [term / self.accumulate for term in terms if term is not None]

    @property
    def discriminator_weights(self) -> list[nn.Parameter]:
        """D's weights that want a gradient."""
        return trainable(self.discriminator)


def mean_of(stats: Sequence[StepStats]) -> StepStats:
    """Return the mean losses over the parts of a batch."""
    return stats[0] if len(stats) == 1 else StepStats(*(torch.stack(each).mean() for each in zip(*stats, strict=True)))
