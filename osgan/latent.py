"""Latent distributions: callables (n, device) -> (n, ...). Any callable of that form does as well."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Latent = Callable[[int, torch.device], Tensor]


@dataclass(frozen=True)
class Gaussian:
    """Standard normal latents of shape (n, dim)."""

    dim: int

    def __call__(self, n: int, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
        """Draw n latents on the device, from its default random generator."""
        return torch.randn(n, self.dim, device=device, dtype=dtype)
