"""FLOPs of a step of every scheme on these networks: the ceiling of what one stage can gain in distillation."""

import copy

import torch
from torch import nn

from osgan.cost import Prediction, count_step
from osgan.distill.losses import DistillationLoss
from osgan.distill.schemes import SCHEMES, build_scheme
from osgan.latent import Latent


def predict_speedup(
    teacher: nn.Module,
    student: nn.Module,
    generator: nn.Module,
    *,
    latent: Latent,
    batch_size: int,
    loss: str | DistillationLoss = "l1",
    student_steps: int = 5,
) -> Prediction:
    """Count every scheme's step; copies do the work. Raises InputError for what cannot be distilled."""
    device = next(generator.parameters()).device
    flops: dict[str, int | None] = {}
    for name in SCHEMES:
        players = copy.deepcopy((teacher, student, generator))
        optimizers = [torch.optim.SGD(network.parameters(), lr=0.0) for network in players[1:]]
        scheme = build_scheme(
            name, *players, *optimizers, latent=latent, batch_size=batch_size, loss=loss, student_steps=student_steps
        )
        scheme.prepare()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            flops[name] = count_step(scheme).flops
    return Prediction(flops, {})
