"""What a step must know of the networks and the loss it is given, measured on copies before the first step."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from osgan import checks
from osgan.augmentation import Augmentation
from osgan.copies import copy_of, randomness_kept
from osgan.errors import InputError, InputWarning
from osgan.latent import Latent
from osgan.losses import AdversarialLoss, LossStructure, measure_loss
from osgan.regularizers.base import Regularizer
from osgan.scoring import Labels
from osgan.structure import NUM_IMAGES, Structure, measure_structure


class Measured:
    """The players of a step, and what was found out about them in the circumstances they are in."""

    generator: nn.Module
    discriminator: nn.Module
    loss: AdversarialLoss
    latent: Latent
    regularizers: tuple[Regularizer, ...]
    n_critic: int
    augmentation: Augmentation | None

    def __init__(self) -> None:
        self.structure: Structure | None = None
        self.loss_structure: LossStructure = self.loss.claimed
        self.scales: int | None = None
        """Images that G makes of a sample, each with a logit of its own; None for one image without an axis of them."""
        self._modules = (*self.generator.modules(), *self.discriminator.modules())
        self._circumstances: Any = None
        self._measured: dict[Any, tuple[Structure, int | None]] = {}
        self._said: set[str] = set()
        self._has_generated = False

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
        (self.structure, self.scales), self._circumstances = self._measured[circumstances], circumstances

    def _measure(self, real: Tensor, labels: Labels) -> tuple[Structure, int | None]:
        checks.check_batch(real, labels, self.discriminator)
        checks.check_trainable(self.generator, self.discriminator)
        structure = measure_structure(self.discriminator, real, labels)
        scales = self._scales_of(real, labels) if structure.logits_per_image > 1 else None
        if scales is not None:
            structure = measure_structure(self.discriminator, real, labels, scales=scales)
        num_logits = len(real) // self.n_critic * structure.logits_per_image
        self.loss_structure = measure_loss(self.loss, real.new_empty(max(1, num_logits)), squashed=structure.squashed)
        self.refuse(structure)
        if self.augmentation is not None:
            self.augmentation.check_loss(self.loss, paired=self.loss_structure.paired)
        with randomness_kept(real.device):
            few = slice(min(len(real), NUM_IMAGES))
            for regularizer in self.regularizers:
                try:
                    tried = copy.deepcopy(regularizer)
                except Exception:  # one that keeps what cannot be copied is not tried: that would move it
                    continue
                tried.refuse(structure)
                tried.check(
                    copy_of(self.discriminator, "discriminator"), real[few].detach(), tuple(y[few] for y in labels)
                )
        for remark in checks.remarks(self.generator, self.discriminator, self.loss, structure):
            self._say(remark)
        self._say(checks.remark_on_range("real", real, bounded=True))
        self._has_generated = False
        return structure, scales

    def _scales_of(self, real: Tensor, labels: Labels) -> int | None:
        """Return how many images a copy of G makes of one sample; None if there is no axis of them."""
        few = min(2, len(real))
        with randomness_kept(real.device), torch.no_grad():
            try:
                fake = copy_of(self.generator, "generator")(self.latent(few, real.device), *(y[:few] for y in labels))
            except Exception:  # what is wrong is said when fakes are made
                return None
        if isinstance(fake, Tensor) and fake.ndim == real.ndim + 1 and fake.shape[2:] == real.shape[1:]:
            return fake.shape[1]
        return None

    def refuse(self, structure: Structure) -> None:
        """Raise InputError for a loss that says what is not so; of one stage also NotExactError."""
        if self.loss_structure.objection:
            raise InputError(self.loss_structure.objection)

    def _say(self, remark: str | None) -> None:
        if remark is not None and remark not in self._said:
            self._said.add(remark)
            warnings.warn(remark, InputWarning, stacklevel=5)
