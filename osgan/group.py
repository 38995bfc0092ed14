"""The processes that share a step: how many they are, and means over them; with one process nothing is done."""

import torch.distributed as dist
from torch import Tensor


def size() -> int:
    """Return how many processes train together: 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def total(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes, the same on all; NaN anywhere is NaN everywhere."""
    if size() == 1:
        return tensor
    found = tensor.clone()
    dist.all_reduce(found)
    return found


def average(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, as `total` does the sum."""
    return tensor if size() == 1 else total(tensor) / size()
