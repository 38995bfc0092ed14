"""Weights that stand an update ahead of where their optimizer put them: extrapolation from the past, averaged.

One-stage training takes both gradients at the weights of before either update; alternating descent takes the second
at what the first has just become. With a player ahead, by the mean of its recent updates, the other meets the player
that is coming, at no gradient more. Without the averaging and for both players this is optimistic descent (Gidel et
al. 2019, section 3.3; Daskalakis et al. 2018); a single update of Adam is noise for the greater part.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.limits import check_real
from osgan.schemes import OneStage
from osgan.step import Options

DECAY = 0.5


class Ahead:
    """Keeps weights ahead: `with ahead.moving(): optimizer.step()`.

    The weights w that others see are v + u, v being where the optimizer's updates alone lead and u the moving average
    of these updates, in which one counts 1 - `decay`: w moves by its update and by the change of u. Works with any
    optimizer whose update does not depend on w but through its gradient; weight decay acts on w. All on the device.
    Raises InputError for a decay that is not from 0 up to 1.
    """

    def __init__(self, weights: Iterable[nn.Parameter], decay: float = DECAY) -> None:
        check_real("decay", decay, lambda value: 0 <= value < 1, "from 0 up to 1, 1 left out")
        self.decay = decay
        self.weights: list[Tensor] = [weight for weight in weights if weight.requires_grad]
        self.mean_update = [torch.zeros_like(weight) for weight in self.weights]

    @contextmanager
    @torch.no_grad()
    def moving(self) -> Iterator[None]:
        """Move on ahead by what the optimizer does in the context."""
        before = [weight.clone() for weight in self.weights]
        with torch.enable_grad():
            yield
        change = torch._foreach_sub(torch._foreach_sub(self.weights, before), self.mean_update)
        torch._foreach_mul_(change, 1 - self.decay)
        torch._foreach_add_(self.mean_update, change)
        torch._foreach_add_(self.weights, change)

    def tensors(self) -> list[Tensor]:
        """Return the very tensors that a step changes beside the weights."""
        return self.mean_update


class OneStageAhead(OneStage):
    """OneStage whose G stands ahead by the mean of its recent updates: D learns of the fakes that are coming.

    So D's update is not a step behind when G's next gradient is taken, which is what alternation is good for; the same
    one forward and one backward pass. See `osgan.Ahead`.

    Args:
        decay: Of the mean of the updates; 0 for the last one alone.
        **options: Those of `Scheme`, with its networks and optimizers.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        *,
        decay: float = DECAY,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(generator, discriminator, generator_optimizer, discriminator_optimizer, **options)
        self.ahead = Ahead(generator.parameters(), decay)

    def update_generator(self) -> None:
        """Take the step of G's optimizer, and move G ahead of it."""
        with self.ahead.moving():
            super().update_generator()

    def tensors(self) -> list[Tensor]:
        """Return what a step changes beside weights and optimizers, the mean of G's updates too."""
        return [*super().tensors(), *self.ahead.tensors()]
