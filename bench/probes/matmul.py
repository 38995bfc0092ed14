"""What this device can do at best in the case's precision: a large matrix product, measured in the same process."""

import time

import torch

REPEATS = 5
TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def matmul_flops_per_s(device: torch.device, precision: str) -> float:
    """Return the FLOP/s of the fastest of a few products of square matrices; its memory is given back."""
    cuda = device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    size = 8192 if cuda else 1024
    a, b = (torch.randn(size, size, device=device).to(TYPES[precision]) for _ in range(2))
    torch.mm(a, b)
    fastest = min(_seconds(a, b, cuda) for _ in range(REPEATS))
    del a, b
    if cuda:
        torch.cuda.empty_cache()
    return 2 * size**3 / fastest


def _seconds(a: torch.Tensor, b: torch.Tensor, cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize(a.device)
    start = time.perf_counter()
    torch.mm(a, b)
    if cuda:
        torch.cuda.synchronize(a.device)
    return time.perf_counter() - start
