"""How networks lie in memory, in which precision they are called, and whether real and fake images share a batch."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from osgan.errors import InputWarning
from osgan.regularizers import ApproximatePenalty, Regularizer
from osgan.step import Scheme

CACHED_BYTES = 2**20
"""On a CPU, D's largest activation up to which one batch of real and fake is faster than two (docs/performance.md)."""

LEAST_SIGMA = 0.1
"""Of the noise of an approximate penalty under bfloat16."""


class Autocast(nn.Module):
    """The network in bfloat16 where that is safe; every call casts the weights anew, so there is nothing to cache."""

    def __init__(self, network: nn.Module, device_type: str) -> None:
        super().__init__()
        self.network = network
        self.device_type = device_type

    def forward(self, *inputs: Tensor) -> Tensor:  # noqa: D102
        with torch.autocast(self.device_type, torch.bfloat16, cache_enabled=False):
            output: Tensor = self.network(*inputs)
        return output


def lay_out(scheme: Scheme, memory_format: torch.memory_format) -> None:
    """Set the memory format of the networks' weights and of the optimizers' state of them, in place."""
    for network in (scheme.generator, scheme.discriminator):
        network.to(memory_format=memory_format)
    for optimizer in (scheme.generator_optimizer, scheme.discriminator_optimizer):
        for weight, values in optimizer.state.items():  # a fused optimizer takes its state to lie as the weights do
            for key, value in values.items():
                if isinstance(value, Tensor) and value.ndim == 4 and value.shape == weight.shape:
                    values[key] = value.contiguous(memory_format=memory_format)


def in_precision(scheme: Scheme, precision: str, device_type: str) -> tuple[nn.Module, nn.Module]:
    """Let the scheme call G and D in a precision of the engine; returns what it calls."""
    G, D = scheme.generator, scheme.discriminator
    if precision == "bf16":
        _remark_on_noise(scheme.regularizers)
        G, D = Autocast(G, device_type), Autocast(D, device_type)
    scheme.G, scheme.D, scheme.penalised = G, D, D
    return G, D


def _remark_on_noise(regularizers: Iterable[Regularizer]) -> None:
    """Warn of approximate penalties whose difference of logits is mostly rounding in bfloat16 (docs/penalties.md)."""
    for penalty in regularizers:
        if isinstance(penalty, ApproximatePenalty) and penalty.sigma < LEAST_SIGMA:
            warnings.warn(
                f"{type(penalty).__name__} with sigma={penalty.sigma:g} takes the difference of logits that bfloat16 "
                f"rounds: what it finds is mostly rounding; use sigma={LEAST_SIGMA:g} or more, or fp32 or tf32",
                InputWarning,
                stacklevel=2,
            )


def shares_a_batch(scheme: Scheme, real: Tensor, labels: tuple[Tensor, ...], asked: bool | None) -> bool:
    """Whether real and fake are faster in one batch: on a GPU, and on a CPU while they stay in its cache.

    `asked` goes before it; `real` and `labels` are a step's batch.
    """
    if asked is not None or real.is_cuda:
        return asked is not False
    sizes: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        sizes.append(output.nbytes if isinstance(output, Tensor) else 0)

    leaves = [module for module in scheme.discriminator.modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        size = len(real) // (scheme.n_critic * scheme.num_parts)
        with torch.no_grad():
            scheme.D(real[:size], *(y[:size] for y in labels))
    finally:
        for handle in handles:
            handle.remove()
    return max(sizes, default=0) <= CACHED_BYTES
