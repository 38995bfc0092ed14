"""How much memory is free, on a GPU or on the host."""

import math

import torch


def free_bytes(device: torch.device) -> float:
    """Return the free memory of a device in bytes; infinity where nobody can tell, on a host without psutil."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        import psutil  # PyTorch alone is enough for networks; only their bound on memory is lost without
    except ModuleNotFoundError:
        return math.inf
    return psutil.virtual_memory().available
