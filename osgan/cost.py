"""FLOPs of a step of every scheme on the user's networks: the ceiling of what a compute-bound machine can gain.

Counted with the formulas of torch.utils.flop_counter while copies of the networks take one real step, so penalties,
labels and odd layers are in. Element-wise work, the optimizers and the data are not.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from osgan import checks
from osgan.building import build_scheme
from osgan.copies import copy_of, randomness_kept
from osgan.errors import InputError, InputWarning, NotExactError
from osgan.exactness import is_measuring
from osgan.latent import Latent
from osgan.limits import check_critic_steps
from osgan.losses import AdversarialLoss
from osgan.names import SCHEME_NAMES
from osgan.own_step import StepFunction, by_two_gradients, put_back
from osgan.regularizers import Regularizer
from osgan.step import Scheme


@dataclass(frozen=True)
class Prediction:
    """FLOPs of a step by scheme, None where the scheme is not exact, and the ceilings against one-stage."""

    flops: dict[str, int | None]
    reasons: dict[str, str]
    """Why a scheme has no figure."""
    reference: str = "one_stage"
    """What the ceilings are against: one_stage, or `step`, the user's own."""

    @property
    def ceilings(self) -> dict[str, float | None]:
        """FLOPs of each scheme over those of the reference."""
        reference = self.flops.get(self.reference)
        return {name: flops / reference if flops and reference else None for name, flops in self.flops.items()}


class Work(NamedTuple):
    """What a step asks of the device, the same whenever it is counted."""

    flops: int
    operators: int
    """Calls of PyTorch's operators, views included; on a GPU most of them are a kernel launch."""


class _WorkCounter(TorchDispatchMode):
    # FlopCounterMode attributes FLOPs to modules with hooks that forbid autograd.grad with respect to a leaf.
    flops = 0
    operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if is_measuring.get():
            return result
        self.operators += 1
        if (own := OWN_FORMULAS.get(func.overloadpacket)) is not None:
            self.flops += own(*args)
        elif (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += int(formula(*args, **kwargs, out_val=result))
        return result


def _convolution_backward_flops(gradient: Tensor, images: Tensor, weight: Tensor, *others: Any) -> int:
    """Count either gradient as the forward convolution; torch's own formula forgets that groups share the work."""
    transposed, wanted = others[4], others[-1]
    positions = images if transposed else gradient
    return 2 * positions.numel() * weight[0].numel() * sum(wanted[:2])


OWN_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.convolution_backward: _convolution_backward_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_: int(
        sdpa_flop_count(q.shape, k.shape, v.shape)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda gradient, q, k, v, *_: int(
        sdpa_backward_flop_count(gradient.shape, q.shape, k.shape, v.shape)
    ),
}
"""What torch.utils.flop_counter has no formula for, or another one: attention on a CPU counts as on a GPU."""


def count_work(scheme: Scheme, real: Tensor, labels: Tensor | None = None) -> Work:
    """Take steps of the scheme, already prepared, and count what one does, the optimizers' operators included.

    With lazy regularizers the mean over their period, rounded: a step is taken for each set of them that is ever due.
    """
    counted: dict[tuple[Regularizer, ...], Work] = {}
    steps_before, works = scheme.num_steps, []
    for place in range(scheme.period):
        scheme.num_steps = place
        due = scheme.due()
        if due not in counted:
            counted[due] = count_step(lambda: scheme(real, labels))
        works.append(counted[due])
    scheme.num_steps = steps_before + len(counted)
    return Work(*(round(sum(each) / len(works)) for each in zip(*works, strict=True)))


def count_step(step: Callable[[], Any]) -> Work:
    """Take a step of any kind and count what it did."""
    with _WorkCounter() as counter:
        step()
    return Work(counter.flops, counter.operators)


@overload
def predict_speedup(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: str | AdversarialLoss,
    real: Tensor,
    latent: Latent,
    labels: Tensor | None = None,
    *,
    regularizers: Sequence[Regularizer] = (),
    n_critic: int = 1,
) -> Prediction: ...


@overload
def predict_speedup(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    step: StepFunction,
    against: Mapping[str, StepFunction] | None = None,
) -> Prediction: ...


def predict_speedup(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: str | AdversarialLoss | None = None,
    real: Tensor | None = None,
    latent: Latent | None = None,
    labels: Tensor | None = None,
    *,
    regularizers: Sequence[Regularizer] = (),
    n_critic: int = 1,
    step: StepFunction | None = None,
    against: Mapping[str, StepFunction] | None = None,
) -> Prediction:
    """Count every scheme's step on a batch `real` (N, C, H, W) with optional labels (N,); copies do the work.

    With `n_critic` above 1 the batch serves every update of D; of lazy regularizers it
    is the mean over their period.

    Or count a step of your own, `step`, a function without arguments that fills gradients by `osgan.backward`, against
    the same losses with a gradient for each player on its own (`two_gradients`), and against loops of your own,
    `against`, such as the alternating one that it replaces: functions of one whole update each. The networks they move
    are put back; an optimizer's momentum is not, so give loops that have optimizers of their own.
    """
    if step is not None:
        own = {"two_gradients": by_two_gradients(step, generator, discriminator), "step": step}
        functions = {**(against or {}), **own}
        found = {name: _flops_of(function, generator, discriminator) for name, function in functions.items()}
        return Prediction(dict(found), {}, reference="step")
    if loss is None or real is None or latent is None:
        raise InputError("predict_speedup needs loss, real and latent, or a step function of your own as step=")
    return _of_schemes(generator, discriminator, loss, real, latent, labels, regularizers, n_critic)


def _flops_of(function: StepFunction, generator: nn.Module, discriminator: nn.Module) -> int:
    with put_back(generator, discriminator):
        return count_step(function).flops


def _of_schemes(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: str | AdversarialLoss,
    real: Tensor,
    latent: Latent,
    labels: Tensor | None,
    regularizers: Sequence[Regularizer],
    n_critic: int,
) -> Prediction:
    checks.check_networks(generator, discriminator)
    checks.check_trainable(generator, discriminator)
    checks.check_batch(real, () if labels is None else (labels,), discriminator)
    check_critic_steps(n_critic)
    real = real.repeat(n_critic, *[1] * (real.ndim - 1))
    labels = None if labels is None else labels.repeat(n_critic, *[1] * (labels.ndim - 1))
    flops: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    for name in SCHEME_NAMES:
        networks = copy_of(generator, "generator"), copy_of(discriminator, "discriminator")
        optimizers = [torch.optim.SGD(network.parameters(), lr=0.0) for network in networks]
        scheme = build_scheme(
            name, *networks, *optimizers, loss=loss, latent=latent, regularizers=regularizers, n_critic=n_critic
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)  # no step is taken that anybody trains with
                scheme.prepare(real, labels)
        except NotExactError as error:
            flops[name], reasons[name] = None, str(error)
            continue
        with randomness_kept(real.device):
            flops[name] = count_work(scheme, real, labels).flops
    return Prediction(flops, reasons)
