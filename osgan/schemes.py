"""The training schemes: OneStage (OSGAN paper, algorithm 1) and what it is compared with, behind one signature.

The difference between the classes is the method. A step waits for nothing on the device; data, logs, checkpoints and
schedules are other people's business.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.decomposition import decompose
from osgan.errors import NotExactError
from osgan.latent import Latent
from osgan.losses import AdversarialLoss
from osgan.passes import one_pass, send, tap, two_passes
from osgan.regularizers import Regularizer
from osgan.step import Labels, Scheme, StepStats, frozen
from osgan.structure import Structure


class OneStage(Scheme):
    """One forward and one backward update both; exact for a sample-wise D, and for any D if the loss is symmetric."""

    def refuse(self, structure: Structure) -> None:
        """Raise NotExactError, with the way out, where one backward pass cannot carry both gradients."""
        super().refuse(structure)
        if objection := structure.objection(self.loss, self.loss_structure):
            raise NotExactError(f"one-stage training is not exact here: {objection}")

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Send the carrier through D once; scale what arrives at the fakes to G's gradient and send it on."""
        self.generator_optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()
        fake = self.generate(real, labels)
        self.penalise(real, fake, labels)
        leaf = tap(fake)
        real_logits, fake_logits = self.score(real, leaf, labels)
        gradients, stats = self.differentiate(real_logits, fake_logits)
        ratio: float | Tensor | None = self.loss_structure.constant_ratio
        if ratio is not None:
            carrier = gradients.fake
        else:
            carrier, ratios = decompose(gradients.fake, gradients.generator, fake_logits.dtype)
            ratio = ratios.view(-1, *[1] * (leaf.ndim - 1))
        one_pass([leaf], [real_logits, fake_logits], [gradients.real, carrier], [ratio])
        self.update_discriminator()
        self.generator_optimizer.step()
        return stats


class Simultaneous(Scheme):
    """One forward, two backward passes through D at the same weights; exact for any D and loss."""

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Take both gradients at the same weights, then update both."""
        self.generator_optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()
        fake = self.generate(real, labels)
        self.penalise(real, fake, labels)
        leaf = tap(fake)
        # Never a joint batch: G's gradient would then be sent back through the real half as well.
        real_logits = self.D(real, *labels).flatten()
        fake_logits = self.D(leaf, *labels).flatten()
        gradients, stats = self.differentiate(real_logits, fake_logits)
        weights = [parameter for parameter in self.discriminator.parameters() if parameter.requires_grad]
        both, of_d = [real_logits, fake_logits], [gradients.real, gradients.fake]
        two_passes([leaf], [fake_logits], [gradients.generator], both, of_d, weights)
        self.update_discriminator()
        self.generator_optimizer.step()
        return stats


class TwoStage(Scheme):
    """Alternating descent: D's update, then G's against the D that has just moved.

    `fresh_fakes` draws new fakes for G's update, else those of D's update serve again. `freeze` asks for no gradients
    of D in G's update, else they are computed and thrown away; with fresh fakes it also makes D's without a graph.
    A paired loss scores the real images again, without a graph, for G's update.
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
        fresh_fakes: bool = True,
        freeze: bool = False,
    ) -> None:
        players = generator, discriminator, generator_optimizer, discriminator_optimizer
        super().__init__(*players, loss=loss, latent=latent, regularizers=regularizers, n_critic=n_critic)
        self.fresh_fakes = fresh_fakes
        self.freeze = freeze

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Update D, then G."""
        self.discriminator_optimizer.zero_grad()
        with torch.set_grad_enabled(not (self.freeze and self.fresh_fakes)):
            fake = self.generate(real, labels)
        self.penalise(real, fake, labels)
        real_logits, fake_logits = self.score(real, fake.detach(), labels)
        gradients, of_discriminator = self.differentiate(real_logits, fake_logits)
        send([real_logits, fake_logits], [gradients.real, gradients.fake])
        self.update_discriminator()

        self.generator_optimizer.zero_grad()
        if self.fresh_fakes:
            fake = self.generate(real, labels)
        with frozen(self.discriminator) if self.freeze else nullcontext():
            if self.loss_structure.paired:
                with torch.no_grad():
                    real_logits = self.local_D(real, *labels).flatten()
            fake_logits = self.local_D(fake, *labels).flatten()
            gradients, of_generator = self.differentiate(real_logits, fake_logits)
            send([fake_logits], [gradients.generator])
        self.generator_optimizer.step()
        return StepStats(of_discriminator.discriminator_loss, of_generator.generator_loss)
