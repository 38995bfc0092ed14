"""Latent distributions: callables (n, device) -> (n, ...). Any callable of that form does as well."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from osgan.errors import InputError

Latent = Callable[[int, torch.device], Tensor]


@dataclass(frozen=True)
class Gaussian:
    """Standard normal latents: `Gaussian(100)` of shape (n, 100), `Gaussian((100, 1, 1))` of shape (n, 100, 1, 1).

    `dtype` is torch's default if it is None. Raises InputError for a size that is no positive whole number.
    """

    dim: int | tuple[int, ...]
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        sizes = self.shape
        if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise InputError(f"Gaussian takes a size such as 100, or a shape such as (100, 1, 1); got {self.dim!r}")
        if self.dtype is not None and not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise InputError(f"Gaussian takes a floating-point dtype such as torch.float64; got {self.dtype!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return tuple(self.dim) if isinstance(self.dim, tuple | list) else (self.dim,)

    def __call__(self, n: int, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
        """Draw n latents on the device, from its default random generator."""
        return torch.randn(n, *self.shape, device=device, dtype=dtype or self.dtype)
