"""The schemes by their names, and the one function that builds any of them."""

from collections.abc import Callable
from functools import partial
from typing import Unpack

from torch import nn
from torch.optim import Optimizer

from osgan.errors import unknown
from osgan.schemes import OneStage, Simultaneous, TwoStage
from osgan.staggered import OneStageStaggered
from osgan.step import Options, Scheme

SCHEMES: dict[str, Callable[..., Scheme]] = {
    "two_stage": partial(TwoStage, fresh_fakes=True, freeze=False),
    "two_stage_frozen": partial(TwoStage, fresh_fakes=True, freeze=True),
    "two_stage_reused": partial(TwoStage, fresh_fakes=False, freeze=False),
    "two_stage_reused_frozen": partial(TwoStage, fresh_fakes=False, freeze=True),
    "simultaneous": Simultaneous,
    "one_stage": OneStage,
    "one_stage_staggered": OneStageStaggered,
}
"""By name, what `build_scheme` builds; in the order of the tables."""


def build_scheme(
    name: str,
    generator: nn.Module,
    discriminator: nn.Module,
    generator_optimizer: Optimizer,
    discriminator_optimizer: Optimizer,
    **options: Unpack[Options],
) -> Scheme:
    """Build any scheme by its name, with the arguments of `Scheme`: `loss` and `latent`, and what else it takes.

    Raises InputError for a name that is not in `SCHEMES`, and where `Scheme` does.
    """
    if name not in SCHEMES:
        raise unknown("scheme", name, SCHEMES)
    players = generator, discriminator, generator_optimizer, discriminator_optimizer
    return SCHEMES[name](*players, **options)
