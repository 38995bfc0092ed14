"""One stage in which D moves within the batch: nearly what alternation gives, from one gradient an image.

One-stage training takes both gradients at the weights of before either update, and so does descent that needs more
images (Lee et al. 2024). Here D goes through the batch part by part and moves after each. Its gradient is of fakes
that the G of now has made, as in alternating descent; and of G's gradient all but the first part comes through a D
that has learnt of some of these fakes.
"""

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.errors import InputError
from osgan.limits import check_count
from osgan.measured import Labels
from osgan.passes import onward, tap
from osgan.schemes import OneStage
from osgan.sending import StepStats, mean_of
from osgan.step import Options

NAME = "one_stage_interleaved"
MOVES = 2


class OneStageInterleaved(OneStage):
    """OneStage with several updates of D a batch, each from its own part of it, and one of G from the whole.

    G makes all fakes at once and goes backward once; the parts go through D one after the other, each for both players.
    The work is that of OneStage, with D on a part of the batch at a time and as many updates of D as there are parts:
    D's learning rate wants to be lower, by about as much. A step takes a multiple of `moves` images; losses that look
    at a batch as a whole (`ragan`), and BatchNorm in D, look at a part.

    Args:
        moves: Updates of D a batch.
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
        moves: int = MOVES,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(generator, discriminator, generator_optimizer, discriminator_optimizer, **options)
        check_count("moves", moves, least=1)
        if self.accumulate > 1:
            raise InputError(f"{NAME} moves D after every part of a batch: accumulate has to be 1; set moves={moves}")
        self.moves = moves

    @property
    def num_parts(self) -> int:
        """As many as D's updates."""
        return self.moves

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Update D after each part, then G."""
        parts = self.parts(real, labels, self.moves, f"moves={self.moves}")
        self.generator_optimizer.zero_grad()
        fake = self.generate(real, labels)
        leaf = tap(fake)
        arrived, stats = [], []
        for (images, theirs), fakes in zip(parts, leaf.chunk(self.moves), strict=True):
            self.discriminator_optimizer.zero_grad()
            at_fakes, losses = self.to_fakes(self.show(images, fakes.detach().requires_grad_(), theirs))
            self.update_discriminator()
            arrived.append(at_fakes / self.moves)
            stats.append(losses)
        onward([leaf], [torch.cat(arrived)], self.extra(fake), self.at_image)
        self.update_generator()
        return mean_of(stats)
