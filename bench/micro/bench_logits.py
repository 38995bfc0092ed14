"""What one-stage training does at the logits: the losses' derivatives, and the carrier and ratio."""

from typing import Any

import pytest
import torch

from osgan.decomposition import decompose
from osgan.losses import LOSSES


@pytest.mark.parametrize("n", [64, 4096])
def bench_decompose(benchmark: Any, n: int) -> None:
    """Carrier and ratio of n logits; half of hinge's fakes have a carrier of 0, which is floored."""
    generator = torch.full((n,), -1.0)
    fake = (torch.arange(n) % 2).float()
    carrier, _ = benchmark(decompose, fake, generator, torch.float32)
    assert (carrier != 0).all()


@pytest.mark.parametrize("n", [64, 4096])
@pytest.mark.parametrize("loss", LOSSES)
def bench_loss_gradients(benchmark: Any, loss: str, n: int) -> None:
    """The three derivatives of a loss at n real and n fake logits."""
    real, fake = torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    gradients = benchmark(LOSSES[loss].gradients, real, fake)
    assert gradients.fake.shape == (n,)
