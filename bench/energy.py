"""The energy that steps take, timed apart from the rounds."""

import time

import torch

from bench.arm import SchemeArm
from bench.games import GameArm
from bench.nvidia import Gpu
from bench.world import WorldArm

ENERGY_SECONDS = 2.0


def joules_per_1000_images(arm: SchemeArm | WorldArm | GameArm, gpu: Gpu, device: torch.device) -> float | None:
    """Run the arm for two seconds between two readings of the GPU's energy counter; None without a counter.

    Of several processes it is this one's GPU and its images.
    """
    if gpu.energy_joules() is None:
        return None
    torch.cuda.synchronize(device)
    before, start, steps = gpu.energy_joules(), time.perf_counter(), 0
    while time.perf_counter() - start < ENERGY_SECONDS:
        with arm.turn():
            arm.run(20)
        steps += 20
    torch.cuda.synchronize(device)
    after = gpu.energy_joules()
    if before is None or after is None:
        return None
    batches = steps * (1 if isinstance(arm, GameArm) else arm.scheme.n_critic)
    return (after - before) / (batches * arm.case.batch_size) * 1000
