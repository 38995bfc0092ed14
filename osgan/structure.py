"""What one-stage training must know of a discriminator, measured on the user's own network and never assumed.

Does the score of one image depend on the other images of the batch, and how many logits does an image get? Layer types
would miss a hand-written mix of samples; the derivative of one image's score with respect to the other images cannot.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from osgan.errors import InputError
from osgan.losses import AdversarialLoss

NUM_PROBES = 4


class Structure(NamedTuple):
    """How D scores a batch."""

    logits_per_image: int
    cross_sample: float
    """Largest |d score_0 / d image_j| over other images j, relative to |d score_0 / d image_0|; 0 means sample-wise."""

    @property
    def sample_wise(self) -> bool:
        """Whether the score of an image depends on that image alone."""
        return self.cross_sample == 0

    def objection(self, loss: AdversarialLoss) -> str | None:
        """Say why one backward pass cannot carry both gradients of this loss through this D; None if it can."""
        if loss.symmetric:
            return None  # the ratio is -1 for every logit, so nothing is assumed of D
        way_out = (
            "use GroupNorm or no norm in D, a symmetric loss (minimax, wgan), or osgan.Simultaneous, which is exact "
            "for every D and still cheaper than two stages"
        )
        if not self.sample_wise:
            return (
                f"the discriminator mixes samples: the score of one image moves with other images of the batch "
                f"(relative derivative {self.cross_sample:.2g}), as BatchNorm or minibatch-stddev do, so the "
                f"asymmetric loss {loss.name!r} has no per-sample gradient ratio; {way_out}"
            )
        if self.logits_per_image > 1:
            return (
                f"the discriminator gives {self.logits_per_image} logits per image (PatchGAN or auxiliary heads), so "
                f"the asymmetric loss {loss.name!r} has no one gradient ratio per image; {way_out}"
            )
        return None


def measure_structure(discriminator: nn.Module, real: Tensor, labels: tuple[Tensor, ...] = ()) -> Structure:
    """Probe D on random images of the shape and type of `real` (N, C, H, W).

    D is left as it was: weights, gradients, running statistics and the random state. The weights are moved a little
    for the probe, so that a branch that starts at zero is seen too. Waits for the device. Raises InputError when D does
    not return one tensor with a row per image.
    """
    discriminator = getattr(discriminator, "_orig_mod", discriminator)  # torch.compile's wrapper
    device = real.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        weights = {name: p.detach() + 0.02 * torch.randn_like(p) for name, p in discriminator.named_parameters()}
        buffers = {name: b.clone() for name, b in discriminator.named_buffers()}
        images = torch.randn(NUM_PROBES, *real.shape[1:], device=device, dtype=real.dtype).requires_grad_()
        rows = torch.arange(NUM_PROBES, device=device) % real.shape[0]
        logits = functional_call(discriminator, (weights, buffers), (images, *(y[rows] for y in labels)))
        if not isinstance(logits, Tensor) or logits.ndim == 0 or logits.shape[0] != NUM_PROBES:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"the discriminator must return one tensor of logits with a row for each of the {NUM_PROBES} images, "
                f"but returned {found}; wrap it so that it returns the adversarial logits alone"
            )
        first = logits[0].flatten()
        (jacobian,) = torch.autograd.grad((first * torch.randn_like(first)).sum(), images)
        norms = jacobian.flatten(1).double().norm(dim=1)
    cross = (norms[1:].max() / norms[0]).item() if norms[0] > 0 else norms[1:].max().item()
    return Structure(logits_per_image=first.numel(), cross_sample=cross)
