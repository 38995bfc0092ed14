"""Networks that something may be tried on: copies of them, and randomness that goes on as if nothing had been drawn."""

import copy
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from osgan.errors import InputError, cause_of

Network = TypeVar("Network", bound=nn.Module)


class _ComputedTensorsToo(TorchFunctionMode):
    """Copies a tensor that a forward pass computed, which PyTorch refuses, by its value alone.

    Modules keep such tensors: the weight of the old weight_norm and spectral_norm, or what a network remembers.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def copy_of(network: Network, name: str) -> Network:
    """Return a deep copy of a network, also after forward passes; what torch.compile wraps is taken out.

    What a layer holds and cannot be copied (a lock, a process group) is shared with the copy. Raises InputError, which
    calls the network `name` and says which layer it is, where even that is not possible.
    """
    network = getattr(network, "_orig_mod", network)  # torch.compile's wrapper
    with _ComputedTensorsToo():
        try:
            return copy.deepcopy(network)
        except Exception:
            memo = _shared(network)
        try:
            return copy.deepcopy(network, memo)
        except Exception as error:
            layers = [path for path, layer in network.named_modules() if path and not _can_be_copied(layer)]
            where = f"its layer {layers[-1]!r}" if layers else "its own __deepcopy__ or attributes"
            raise InputError(
                f"the {name} cannot be copied, which trying it without moving it needs, because of {where} "
                f"({cause_of(error)}); keep such an object outside the network"
            ) from None


def _shared(network: nn.Module) -> dict[int, Any]:
    """Return a memo for deepcopy that shares what cannot be copied."""
    memo: dict[int, Any] = {}
    for module in network.modules():
        for value in vars(module).values():
            try:
                copy.deepcopy(value)
            except Exception:
                if not isinstance(value, dict):  # those of parameters, buffers and modules are looked into by deepcopy
                    memo[id(value)] = value
    return memo


def _can_be_copied(module: nn.Module) -> bool:
    try:
        copy.deepcopy(module, _shared(module))
    except Exception:
        return False
    return True


@contextmanager
def randomness_kept(device: torch.device) -> Iterator[None]:
    """Let the random states of PyTorch (CPU and the device), Python and NumPy go on as if nothing had been drawn."""
    numpy = sys.modules.get("numpy")
    states = random.getstate(), numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(states[0])
        if numpy:
            numpy.random.set_state(states[1])


def random_states(device: torch.device) -> tuple[Any, ...]:
    """Return what tells whether somebody has drawn a random number since."""
    numpy = sys.modules.get("numpy")
    of_numpy = numpy.random.get_state() if numpy else (None, b"", 0)
    of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0)
    return (
        bytes(torch.get_rng_state().tolist()),
        bytes(of_device.tolist()),
        random.getstate(),
        bytes(of_numpy[1]),
        of_numpy[2],
    )


def seed_everything(seed: int) -> None:
    """Seed PyTorch, Python and, where it is loaded, NumPy; inside `randomness_kept`."""
    torch.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
