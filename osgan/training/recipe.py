"""A training run in plain values, and the loop that is built from them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from osgan.augmentation import parse_augmentation
from osgan.building import build_scheme
from osgan.errors import InputError
from osgan.limits import check_clip, check_count, check_critic_steps, check_real, check_seed, shown
from osgan.losses import as_loss
from osgan.nets import Networks
from osgan.normalization import GradientNormalization
from osgan.parallel import ddp, processes
from osgan.regularizers import parse_loss
from osgan.training.engine import Engine
from osgan.training.loop import Loop
from osgan.training.optim import build_optimizer
from osgan.training.schedule import Schedule

if TYPE_CHECKING:
    from osgan.data import Dataset


TEXTS = (
    "dataset",
    "architecture",
    "loss",
    "scheme",
    "optimizer",
    "schedule",
    "penalty_schedule",
    "augmentation",
    "engine",
    "precision",
)
"""Fields that are text."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, and how; everything that decides the weights but the machine. Raises InputError for nonsense."""

    dataset: str
    architecture: str
    loss: str = "nonsaturating"
    scheme: str = "one_stage"
    batch_size: int = 64
    """Of all processes together, however many there are."""
    images: int = 1_000_000
    """Real images seen in the whole run, the horizon of the schedule."""
    optimizer: str = "adam"
    generator_lr: float = 2e-4
    discriminator_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    n_critic: int = 1
    """Updates of D for one of G, each on `batch_size` real images of its own."""
    schedule: str = "constant"
    """constant, linear, cosine+to=0.1, or multistep+at=(0.5,0.75)+gamma=0.1, in shares of the run; any +warmup=0.02."""
    penalty_schedule: str = "constant"
    """Of the weights of all penalties, written as `schedule`."""
    augmentation: str = "none"
    """What D sees all images through: none, diffaugment+policy='color,translation', ada+target=0.6, ..."""
    generator_clip: float | None = None
    """The largest norm of G's gradient that its optimizer is given; None for any."""
    discriminator_clip: float | None = None
    """The same of D's."""
    accumulate: int = 1
    """Equal parts of a batch that go through the networks one after the other; their gradients add up to its own."""
    gradient_normalization: float | None = None
    """Decay of the average whose root divides what arrives at the generated images, such as 0.9; None for none."""
    ema_half_life: int = 10_000
    """Images after which a weight counts half in the moving average of G; 0 for no average."""
    engine: str = "eager"
    precision: str = "fp32"
    sync_batch_norm: bool = False
    """Whether BatchNorm layers see the whole batch where several processes share it; GPUs only."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "images"):
            check_count(name, getattr(self, name), least=1)
        check_critic_steps(self.n_critic)
        for name in ("generator_lr", "discriminator_lr"):
            check_real(name, getattr(self, name), lambda value: 0 < value < math.inf, "above 0")
        for name in TEXTS:
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be text, got {shown(getattr(self, name))}")
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise InputError(f"betas must be two numbers, got {shown(self.betas)}")
        for beta in self.betas:
            check_real("betas", beta, lambda value: 0 <= value < 1, "from 0 up to 1, 1 left out")
        check_count("ema_half_life", self.ema_half_life, least=0)
        check_count("accumulate", self.accumulate, least=1)
        if self.batch_size % self.accumulate:
            raise InputError(
                f"accumulate {self.accumulate} divides a batch equally, and batch_size {self.batch_size} is no multiple"
            )
        check_clip("generator_clip", self.generator_clip)
        check_clip("discriminator_clip", self.discriminator_clip)
        if self.gradient_normalization is not None:
            GradientNormalization(self.gradient_normalization)
        parse_augmentation(self.augmentation)
        check_seed(self.seed)
        Engine.parse(self.engine, self.precision)
        for schedule in (self.schedule, self.penalty_schedule):
            Schedule(schedule, num_steps=self.num_steps)

    @property
    def images_per_step(self) -> int:
        """Real images that D is shown in a step."""
        return self.batch_size * self.n_critic

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return max(1, round(self.images / self.images_per_step))

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Read what `to_dict` gave, of this version or an older one; raises InputError for keys it does not know."""
        if strange := sorted(values.keys() - {field.name for field in fields(cls)}):
            raise InputError(f"a recipe has no {', '.join(strange)}; was it written by a newer version of osgan?")
        betas = values.get("betas", cls.betas)
        return cls(**values | {"betas": tuple(betas) if isinstance(betas, list) else betas})


def build_loop(
    recipe: Recipe,
    networks: Networks,
    dataset: "Dataset",
    *,
    after_step: Callable[[], None] | None = None,
    extra_state: Sequence[Tensor] = (),
) -> Loop:
    """Build the loop that trains the networks, which are changed in place, by the recipe; sets the global seed.

    Where torch.distributed has several processes, each of them builds it, draws its part of the recipe's batch and has
    a random stream of its own. Raises InputError if they cannot share the batch equally.
    """
    rows = processes.local_rows(recipe.batch_size, recipe.n_critic, recipe.accumulate)
    if recipe.sync_batch_norm:
        ddp.synchronise_batch_norm(networks.generator, networks.discriminator)
    name, regularizers = parse_loss(recipe.loss)
    loss = as_loss(name)
    optimizers = [
        build_optimizer(recipe.optimizer, network.parameters(), lr, recipe.betas)
        for network, lr in (
            (networks.generator, recipe.generator_lr),
            (networks.discriminator, recipe.discriminator_lr),
        )
    ]
    decay = recipe.gradient_normalization
    normalization = None if decay is None else GradientNormalization(decay)
    scheme = build_scheme(
        recipe.scheme,
        networks.generator,
        networks.discriminator,
        *optimizers,
        loss=loss,
        latent=networks.latent,
        regularizers=regularizers,
        n_critic=recipe.n_critic,
        augmentation=parse_augmentation(recipe.augmentation, loss),
        generator_clip=recipe.generator_clip,
        discriminator_clip=recipe.discriminator_clip,
        accumulate=recipe.accumulate,
        normalization=normalization,
    )
    processes.manual_seed(recipe.seed)
    return Loop(
        scheme,
        dataset.batches(recipe.images_per_step, seed=recipe.seed, rows=rows),
        Engine.parse(recipe.engine, recipe.precision),
        conditional=networks.num_classes is not None,
        after_step=after_step,
        extra_state=extra_state,
    )


def set_penalties(loop: Loop, factor: float) -> None:
    """Set the factor on all penalties, in place where a captured step reads it."""
    for regularizer in loop.scheme.regularizers:
        if isinstance(regularizer.scale, Tensor):
            regularizer.scale.fill_(factor)
        else:
            regularizer.scale = torch.tensor(factor, device=loop.device)


def set_learning_rates(loop: Loop, recipe: Recipe, factor: float) -> None:
    """Set both rates to the recipe's times the factor, in place where a captured step reads them."""
    for optimizer, lr in zip(loop.optimizers, (recipe.generator_lr, recipe.discriminator_lr), strict=True):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * factor)
            else:
                group["lr"] = lr * factor
