"""One stage in which D moves in the middle of the batch: most of what alternation gives, from one gradient an image.

One-stage training takes both gradients at the weights of before either update, and so does descent that needs more
images (Lee et al. 2024). Here the updates are half a batch apart. Each half goes through D once, for both players, and
each player's gradient is the mean over the last two halves, one of them taken since the other player has moved; that
one counts for more. The order is that of leapfrog integration, whose two variables are updated at staggered times.
"""

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.errors import InputError
from osgan.limits import check_real
from osgan.measured import Labels
from osgan.passes import onward, tap
from osgan.schemes import OneStage
from osgan.sending import StepStats, mean_of
from osgan.step import Options

FRESH = 0.75
NAME = "one_stage_staggered"


class OneStageStaggered(OneStage):
    """OneStage with D's update in the middle of the batch and G's at its end.

    G makes all fakes at once. D is shown the first half, moves, and is shown the second, whose gradient it keeps for
    its next update. So `fresh` of D's gradient is of fakes of the G of now and the rest of those of the G of before;
    `fresh` of G's comes through the D that has just moved and the rest through the one of before. The work is that of
    OneStage, in D on half the batch at a time. A step takes an even number of images; losses that look at a batch as a
    whole (`ragan`, and BatchNorm in D) look at a half.

    Args:
        fresh: From 0.5, the plain mean of both halves, to 1, where each player learns of one half alone: alternating
            descent on half the batch. What is fresh comes of fewer images: two halves count as 1 / (fresh^2 +
            (1 - fresh)^2) of them, at 0.75 as 1.6.
        **options: Those of `Scheme`, with its networks and optimizers; `accumulate` has to be 1.

    Raises InputError where `Scheme` does.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        *,
        fresh: float = FRESH,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(generator, discriminator, generator_optimizer, discriminator_optimizer, **options)
        check_real("fresh", fresh, lambda value: 0.5 <= value <= 1, "from 0.5 to 1")
        if self.accumulate > 1:
            raise InputError(f"{NAME} takes a batch in halves and in no other parts: accumulate has to be 1")
        self.fresh = fresh
        self.kept = [torch.zeros_like(weight) for weight in discriminator.parameters()]
        """D's gradient on the half of which only G has learnt yet."""

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Update D after the first half, G after the second."""
        (real_1, labels_1), (real_2, labels_2) = self.parts(real, labels, self.num_parts, NAME)
        self.generator_optimizer.zero_grad()
        fake = self.generate(real, labels)
        leaf = tap(fake)
        fake_1, fake_2 = (half.detach().requires_grad_() for half in leaf.chunk(2))

        self.discriminator_optimizer.zero_grad()
        arrived_1, stats_1 = self.to_fakes(self.show(real_1, fake_1, labels_1))
        torch._foreach_lerp_(*self.gradients_and_kept(), 1 - self.fresh)
        self.update_discriminator()

        self.discriminator_optimizer.zero_grad()
        arrived_2, stats_2 = self.to_fakes(self.show(real_2, fake_2, labels_2))
        gradients, kept = self.gradients_and_kept()
        torch._foreach_copy_(kept, gradients)

        arrived = torch.cat([(1 - self.fresh) * arrived_1, self.fresh * arrived_2])
        onward([leaf], [arrived], self.extra(fake), self.at_image)
        self.update_generator()
        return mean_of([stats_1, stats_2])

    @property
    def num_parts(self) -> int:
        """The halves."""
        return 2

    def gradients_and_kept(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return D's gradients beside what is kept of them, of the weights that have one."""
        pairs = zip(self.discriminator.parameters(), self.kept, strict=True)
        known = [(weight.grad, kept) for weight, kept in pairs if weight.grad is not None]
        return [gradient for gradient, _ in known], [kept for _, kept in known]

    def tensors(self) -> list[Tensor]:
        """Return what a step changes beside weights and optimizers, D's kept gradient too."""
        return [*super().tensors(), *self.kept]
