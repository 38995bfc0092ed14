"""What the training schemes share: the networks, the two ways to score a batch, the gradients at the logits."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from osgan import checks
from osgan.copies import copy_of, randomness_kept
from osgan.decomposition import refuse_float16
from osgan.errors import InputError, InputWarning
from osgan.latent import Latent
from osgan.limits import check_critic_steps
from osgan.losses import AdversarialLoss, LogitGradients, as_loss, at_least_float32, measure_loss
from osgan.passes import send
from osgan.regularizers import Regularizer
from osgan.structure import NUM_IMAGES, Structure, measure_structure

Labels = tuple[Tensor, ...]
Forward = Callable[..., Tensor]


class StepStats(NamedTuple):
    """Mean losses of one step, scalars that stay on the device."""

    discriminator_loss: Tensor
    generator_loss: Tensor


class Scheme:
    """One training step of G and D: `step(real)` or `step(real, labels)`, real (N, C, H, W) in [-1, 1], labels (N,).

    With `n_critic` k above 1, D is updated k - 1 times alone before the step of both, whose update of D is the k-th:
    real is then (k * N, C, H, W), a fresh batch for each, the step's own the last; G makes N fakes at a time.

    G is called as `G(z)` or `G(z, labels)`, D as `D(x)` or `D(x, labels)`; D returns its logits, any shape with N rows.
    The optimizers must hold all trainable weights of their network and none of the other's.
    The first step measures the networks and the loss (`prepare`), as does the first step after a module of either
    network went into another mode, train or evaluation, or images came in another shape or type; real and fake images
    then share a batch when D is sample-wise and `joint_batch` holds, and else go through D one after the other.
    A step begins by clearing the gradients of the player it updates. `G` and `D` are what is called to
    go forward, the networks themselves unless an engine (`osgan.training.engine`) puts faster callables with the same
    weights there, or `osgan.distribute` ones that average gradients over processes; penalties, which differentiate
    twice, call `penalised`.

    Args:
        generator: Latents, as `latent` gives them, and labels to images (N, C, H, W).
        discriminator: Images (N, C, H, W) and labels to logits.
        generator_optimizer: Holds all trainable weights of G and nothing of D.
        discriminator_optimizer: Holds all trainable weights of D and nothing of G.
        loss: The name of one of `osgan.losses.LOSSES`, or a loss of one's own.
        latent: Called with N and a device, gives the N latents of G, such as `osgan.Gaussian(100)`.
        regularizers: Penalties on D and limits of its weights.
        n_critic: Updates of D a step, 1 or more.

    Raises:
        InputError: For networks, optimizers, a loss or n_critic that cannot be used.
    """

    joint_batch = True

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
    ) -> None:
        check_critic_steps(n_critic)
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
        self.structure: Structure | None = None
        self.loss_structure = self.loss.claimed
        self.num_steps = 0
        self._modules = (*generator.modules(), *discriminator.modules())
        self._circumstances: Any = None
        self._measured: dict[Any, Structure] = {}
        self._said: set[str] = set()
        self._has_generated = False

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

    def prepare(self, real: Tensor, labels: Tensor | None = None) -> None:
        """Measure anew how D scores a batch like `real` (N, C, H, W), and what the loss is.

        The first step does so by itself. Ask for it where D changes later in what it does and not in its modules'
        modes: a layer that is switched on, progressive growing. Copies are tried, and all random states kept; waits
        for the device. Raises InputError where a step would fail, NotExactError where the scheme would not be exact.
        """
        self._measured.clear()
        self._modules = (*self.generator.modules(), *self.discriminator.modules())
        self.measure(real, () if labels is None else (labels,))

    def is_stale(self, real: Tensor) -> bool:
        """Whether a step on such images needs another look at the networks; waits for nothing."""
        if self.structure is None:
            return True
        known = self._circumstances
        return known is not None and (self.modes_changed() or known[1:] != (real.shape[1:], real.dtype))

    def modes_changed(self) -> bool:
        """Whether a module went into another mode, train or evaluation, since the last measurement."""
        return self._circumstances is not None and self._circumstances[0] != self._modes()

    def _modes(self) -> bytes:
        return bytes([module.training for module in self._modules])

    def measure(self, real: Tensor, labels: Labels) -> None:
        """Do what `prepare` says, for circumstances that have not been measured."""
        circumstances = (self._modes(), real.shape[1:], real.dtype) if isinstance(real, Tensor) else None
        if circumstances not in self._measured:
            self._measured[circumstances] = self._measure(real, labels)
        self.structure, self._circumstances = self._measured[circumstances], circumstances

    def _measure(self, real: Tensor, labels: Labels) -> Structure:
        checks.check_batch(real, labels, self.discriminator)
        checks.check_trainable(self.generator, self.discriminator)
        structure = measure_structure(self.discriminator, real, labels)
        num_logits = len(real) // self.n_critic * structure.logits_per_image
        self.loss_structure = measure_loss(self.loss, real.new_empty(max(1, num_logits)), squashed=structure.squashed)
        self.refuse(structure)
        with randomness_kept(real.device):
            few = slice(min(len(real), NUM_IMAGES))
            for regularizer in self.regularizers:
                try:
                    tried = copy.deepcopy(regularizer)
                except Exception:  # one that keeps what cannot be copied is not tried: that would move it
                    continue
                tried.check(
                    copy_of(self.discriminator, "discriminator"), real[few].detach(), tuple(y[few] for y in labels)
                )
        for remark in checks.remarks(self.generator, self.discriminator, self.loss, structure):
            self._say(remark)
        self._say(checks.remark_on_range("real", real, bounded=True))
        self._has_generated = False
        return structure

    def refuse(self, structure: Structure) -> None:
        """Raise InputError for a loss that says what is not so; of one stage also NotExactError."""
        if self.loss_structure.objection:
            raise InputError(self.loss_structure.objection)

    def _say(self, remark: str | None) -> None:
        if remark is not None and remark not in self._said:
            self._said.add(remark)
            warnings.warn(remark, InputWarning, stacklevel=5)

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
        with torch.no_grad():
            fake = self.generate(real, labels)
        self.penalise(real, fake, labels)
        real_logits, fake_logits = self.score(real, fake, labels)
        gradients, _ = self.differentiate(real_logits, fake_logits)
        send([real_logits, fake_logits], [gradients.real, gradients.fake])
        self.update_discriminator()

    def step(self, real: Tensor, labels: Labels) -> StepStats:
        """Do the scheme's step on one batch (N, C, H, W)."""
        raise NotImplementedError

    def generate(self, real: Tensor, labels: Labels) -> Tensor:
        """Make one fake for each real image, with its label; looks at the first ones, which waits for the device."""
        if not self._has_generated:
            fake = checks.first_fakes(self.generator, self.G, self.latent, real, labels)
            self._say(checks.remark_on_range("generated", fake, bounded=False))
            self._has_generated = torch.is_grad_enabled()
            return fake
        return self.G(self.latent(real.shape[0], real.device), *labels)

    def score(self, real: Tensor, fake: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return the flat logits of real and fake images, from one joint batch if D is sample-wise."""
        if self.joint_batch and self.structure is not None and self.structure.can_share_a_batch:
            doubled = [torch.cat([y, y]) for y in labels]
            images = torch.cat([real, fake])  # in the wider of both types: neither is rounded
            real_logits, fake_logits = self.D(images, *doubled).flatten().chunk(2)
            return real_logits, fake_logits
        return self.D(real, *labels).flatten(), self.D(fake, *labels).flatten()

    def differentiate(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[LogitGradients, StepStats]:
        """Return the gradients of both losses at the logits, and the losses, in float32 or better.

        Raises InputError for logits in float16.
        """
        refuse_float16(fake_logits.dtype)
        with torch.no_grad():
            logits = at_least_float32(real_logits), at_least_float32(fake_logits)
            stats = StepStats(*self.loss.means(*logits))
            per_sample = self.loss.gradients(*logits)
            return LogitGradients(*(gradient / fake_logits.numel() for gradient in per_sample)), stats

    def penalise(self, real: Tensor, fake: Tensor, labels: Labels) -> None:
        """Add the gradients of the regularizers to D's.

        Comes before D's forward pass: the loss's gradient is then added to theirs, and the one reduction over
        processes, which the backward pass after that forward pass makes, is of the sum.
        """
        for regularizer in self.due():
            regularizer.accumulate(self.penalised, real, fake.detach(), labels)

    def update_discriminator(self) -> None:
        """Take the step of D's optimizer, then what the regularizers do after it."""
        self.discriminator_optimizer.step()
        for regularizer in self.due():
            regularizer.after_step(self.discriminator)


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
