"""A whole step of every scheme, and the batch it is given, on networks so small that overhead shows."""

from typing import Any

import pytest
import torch

from osgan import data, nets
from osgan.building import SCHEMES, build_scheme

BATCH_SIZE = 16


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    """Scikit-learn's digits at 32 pixels, resident."""
    dataset = data.load("digits", resolution=32, device="cpu")
    assert dataset.resident
    return dataset


def bench_batch(benchmark: Any, digits: data.Dataset) -> None:
    """Draw a batch; now and then that includes an epoch's permutation."""
    real, _ = benchmark(next, digits.batches(BATCH_SIZE, seed=0))
    assert real.shape[0] == BATCH_SIZE


@pytest.mark.parametrize("scheme", SCHEMES)
def bench_step(benchmark: Any, digits: data.Dataset, scheme: str) -> None:
    """One step on a prepared scheme, always with the same batch."""
    torch.manual_seed(0)
    networks = nets.build("dcgan32+width=8+norm=group", channels=digits.image_shape[0])
    players = networks.generator, networks.discriminator
    optimizers = [torch.optim.Adam(player.parameters(), 2e-4, (0.5, 0.999)) for player in players]
    built = build_scheme(scheme, *players, *optimizers, loss="nonsaturating", latent=networks.latent)
    real, _ = next(digits.batches(BATCH_SIZE, seed=0))
    built.prepare(real)
    stats = benchmark(built.step, real, ())
    assert torch.isfinite(torch.stack(stats)).all()
