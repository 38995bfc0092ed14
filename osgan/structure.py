"""What one-stage training must know of a discriminator, measured on the user's own network and never assumed.

Does the score of one image depend on the other images of the batch, and how many logits does an image get? Layer types
would miss a hand-written mix of samples; the derivative of one image's score with respect to the other images cannot.
A copy of D is probed, in the mode D is in and with that mode's own randomness, with images like the real batch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from osgan.copies import copy_of, random_states, randomness_kept, seed_everything
from osgan.errors import InputError, cause_of
from osgan.losses import AdversarialLoss, LossStructure

NUM_IMAGES = 8
NUM_PROBES = 3
NUM_RANDOM_PROBES = 12
"""Of a D that draws random numbers: one that mixes samples half of the time is then missed once in 4,096."""


class Structure(NamedTuple):
    """How D scores a batch."""

    logits_per_image: int
    cross_sample: float | None
    """Largest |d score_i / d image_j| over other images j, relative to |d score_i / d image_i|; 0 means sample-wise.

    None where the probes tell nothing: every gradient was zero, NaN or infinite.
    """
    mixes_scores: bool = False
    """Whether a score moves with other images though its gradient does not (batch statistics that are detached)."""
    squashed: bool = False
    """Whether every output lies in [0, 1] whatever D is given: it ends in a sigmoid."""
    scales: int | None = None
    """Images of one sample that D judges apart, with a logit for each; None where a sample is one image."""

    @property
    def sample_wise(self) -> bool:
        """Whether the gradient of an image's score is of that image alone."""
        return self.cross_sample == 0

    @property
    def one_logit(self) -> bool:
        """Whether each image has one logit: of one image a sample, or of each of several."""
        return self.logits_per_image == (self.scales or 1)

    @property
    def can_share_a_batch(self) -> bool:
        """Whether real and fake images get the same scores and gradients in one batch as in two."""
        return self.sample_wise and not self.mixes_scores

    def objection(self, loss: AdversarialLoss, of_loss: LossStructure | None = None) -> str | None:
        """Say why one backward pass cannot carry both gradients of this loss through this D; None if it can.

        `of_loss` is what was measured of the loss; without it, what the loss says of itself counts.
        """
        if (of_loss or loss.claimed).constant_ratio is not None:
            return None  # one ratio serves every logit, so nothing is assumed of D
        way_out = (
            "use GroupNorm or no norm in D, a symmetric loss (minimax, wgan), or osgan.Simultaneous, which is exact "
            "for every D and still cheaper than two stages"
        )
        if self.cross_sample is None:
            return (
                "nothing is known of the discriminator: on every probe its gradient was zero, NaN or infinite, so "
                "whether it scores each image on its own cannot be told; is it saturated, or its weights not finite? "
                f"Else {way_out}"
            )
        if not self.sample_wise:
            return (
                f"the discriminator mixes samples: the score of one image moves with other images of the batch "
                f"(relative derivative {self.cross_sample:.2g}), as BatchNorm or minibatch-stddev do, so the "
                f"asymmetric loss {loss.name!r} has no per-sample gradient ratio; {way_out}"
            )
        if not self.one_logit:
            return (
                f"the discriminator gives {self.logits_per_image} logits per image (PatchGAN or auxiliary heads), so "
                f"the asymmetric loss {loss.name!r} has no one gradient ratio per image; {way_out}"
            )
        return None


class _Prober:
    """A copy of D whose weights and buffers are set anew before every call."""

    def __init__(self, discriminator: nn.Module, labels: tuple[Tensor, ...]) -> None:
        # No functional_call: activation checkpointing goes forward once more when the call is long over.
        self.network = copy_of(discriminator, "discriminator").requires_grad_(False)
        self.labels = labels
        self.weights = {name: weight.clone() for name, weight in self.network.named_parameters()}
        self.buffers = [
            (module, name, buffer.clone())
            for module in self.network.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]

    def moved_weights(self, seed: int) -> dict[str, Tensor]:
        """Return the weights moved a little, so that a branch that starts at zero is seen too."""
        seed_everything(seed)
        return {
            name: weight + 0.02 * torch.randn_like(weight) if weight.is_floating_point() else weight
            for name, weight in self.weights.items()
        }

    def __call__(self, images: Tensor, weights: dict[str, Tensor], seed: int) -> Tensor:
        """Return the logits with a row for each image; raises InputError where D gives something else."""
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                weight.copy_(weights[name])
        for module, name, buffer in self.buffers:
            module.register_buffer(name, buffer.clone(), name not in module._non_persistent_buffers_set)
        seed_everything(seed)
        try:
            logits = self.network(images, *self.labels)
        except Exception as error:
            raise InputError(self._failed(images, error)) from None
        if not isinstance(logits, Tensor) or logits.ndim == 0 or logits.shape[0] != len(images):
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"the discriminator must return one tensor of logits with a row for each of the {len(images)} images, "
                f"but returned {found}; wrap it so that it returns the adversarial logits alone"
            )
        return logits

    def _failed(self, images: Tensor, error: Exception) -> str:
        with_labels = "".join(f" with labels {tuple(y.shape)} of {y.dtype}" for y in self.labels)
        own = next((weight for weight in self.weights.values() if weight.is_floating_point()), images)
        message = (
            f"the discriminator fails on {tuple(images.shape)} images of {images.dtype}{with_labels}: {cause_of(error)}"
        )
        if own.device != images.device:
            return f"{message}; its weights are on {own.device}, the images on {images.device}: bring both together"
        if own.dtype != images.dtype:
            return f"{message}; its weights are {own.dtype}: give it real.to({own.dtype})"
        return f"{message}; it must take images of the real batch's shape, and be called as D(images, *labels)"


def measure_structure(
    discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...] = (), *, scales: int | None = None
) -> Structure:
    """Probe a copy of D on images like `real` (N, C, H, W), with labels (N, ...).

    With `scales` S it is given S images of each sample, (N, S, C, H, W), and asked whether each has a logit of its own.
    D and all random states are left as they were. Waits for the device. Raises InputError when D cannot be called so,
    does not return one tensor with a row per image, or cannot be differentiated.
    """
    with randomness_kept(real.device), torch.enable_grad():
        try:
            return _measure(discriminator, real.detach(), labels, NUM_IMAGES, scales)
        except InputError:
            if len(real) == NUM_IMAGES:
                raise
            # D may insist on the size of the batch (groups of a fixed size)
            return _measure(discriminator, real.detach(), labels, len(real), scales)


def _measure(
    discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...], num_images: int, scales: int | None
) -> Structure:
    rows = torch.arange(num_images, device=real.device) % len(real)
    prober = _Prober(discriminator, tuple(y[rows.to(y.device)] for y in labels))
    seed_everything(0)
    probes = _probe_images(real, rows) if scales is None else _probe_scales(real, rows, scales)
    crosses: list[float] = []
    apart = scales is not None
    mixes_scores = False
    num_probes, num_done = NUM_PROBES, 0
    while num_done < num_probes:
        images = next(probes).requires_grad_()
        weights = prober.weights if num_done == 0 else prober.moved_weights(num_done)
        seed_everything(num_done)
        before = random_states(real.device)
        logits = prober(images, weights, num_done)
        if num_done == 0 and random_states(real.device) != before:
            num_probes = NUM_RANDOM_PROBES
        crosses += _cross_derivatives(logits, images)
        apart = (
            apart and logits.shape == images.shape[:2] and max(_cross_derivatives(logits, images, 2), default=1) == 0
        )
        mixes_scores = mixes_scores or _moves_with_others(prober, images, logits, weights, num_done)
        num_done += 1
    squashed = _is_squashed(prober, next(probes))
    return Structure(logits[0].numel(), max(crosses, default=None), mixes_scores, squashed, scales if apart else None)


def _probe_images(real: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """Give images for ever, all different, with the real batch's values: itself, its pixels shuffled, mixtures."""
    images = real[rows]
    if not images.std() > 0:  # nothing to shuffle
        images = images + torch.randn_like(images)
    own = min(len(real), len(rows))
    while True:
        shuffled = images.flatten()[torch.randperm(images.numel(), device=real.device)].view_as(images)
        yield torch.cat([images[:own], shuffled[own:]])
        yield shuffled
        share = torch.rand(len(rows), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        yield torch.lerp(images, shuffled, share)


def _probe_scales(real: Tensor, rows: Tensor, scales: int) -> Iterator[Tensor]:
    """Give images for ever, `scales` different ones of each sample."""
    probes = _probe_images(real, rows)
    while True:
        yield torch.stack([next(probes) for _ in range(scales)], 1)


def _cross_derivatives(logits: Tensor, images: Tensor, axes: int = 1) -> list[float]:
    """Return the largest derivative by other images over the largest by an image's own, for halves of the batch.

    An image is what lies along the first `axes` of both.

    Two different rows differ in a bit of their numbers, so in one of the halvings they are on different sides: a
    gradient of the scores on one side must then be exactly zero at the images of the other.
    """
    num_images = images.shape[:axes].numel()
    numbers = torch.arange(num_images, device=images.device)
    crosses = []
    for bit in range(max(1, (num_images - 1).bit_length())):
        for side in (0, 1):
            chosen = (numbers >> bit) & 1 == side
            direction = torch.randn_like(logits) * chosen.view(*images.shape[:axes], *[1] * (logits.ndim - axes))
            try:
                (gradient,) = torch.autograd.grad(logits, images, direction, retain_graph=True, materialize_grads=True)
            except RuntimeError as error:
                raise InputError(_not_differentiable(error)) from None
            norms = gradient.flatten(0, axes - 1).flatten(1).double().norm(dim=1)
            own, others = norms[chosen], norms[~chosen]
            if not norms.isfinite().all() or not norms.any() or not len(own):
                continue
            largest = others.max().item() if len(others) else 0.0
            crosses.append(largest / own.max().item() if own.max() > 0 else float("inf"))
    return crosses


def _not_differentiable(error: RuntimeError) -> str:
    if "checkpoint" in str(error).lower():
        return (
            "the discriminator uses reentrant activation checkpointing, which gives no gradient with respect to its "
            "images: pass use_reentrant=False to torch.utils.checkpoint.checkpoint"
        )
    return (
        f"the discriminator gives no gradient with respect to its images: {cause_of(error)}; it must be differentiable "
        "from its logits to its images (no detach, no torch.no_grad, no .data on the way)"
    )


def _moves_with_others(prober: _Prober, images: Tensor, logits: Tensor, weights: dict[str, Tensor], seed: int) -> bool:
    """Whether the scores of the first half move when the second half of the batch is another."""
    half = len(images) // 2
    if not half:
        return False
    with torch.no_grad():
        others = torch.cat([images[:half], images[half:].flip(0).flip(-1) * 0.5])
        moved = (prober(others, weights, seed)[:half] - logits[:half]).abs().max()
        size = logits.abs().max()
    return bool(moved > torch.finfo(logits.dtype).eps ** 0.5 * size)


def _is_squashed(prober: _Prober, images: Tensor) -> bool:
    """Whether the outputs stay in [0, 1] for weights and images of any size and sign."""
    with torch.no_grad():
        weights = prober.weights
        tried = (
            (images, weights),
            (images * 100, weights),
            (images, {name: -w for name, w in weights.items()}),
            (images, {name: 10 * w for name, w in weights.items()}),
        )
        outputs = [prober(given, values, 0) for given, values in tried]
    return all(bool(((output >= 0) & (output <= 1)).all()) for output in outputs)
