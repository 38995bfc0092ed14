"""The energy that steps take, timed apart from the rounds."""

import time
from typing import Protocol

import torch

from bench.machine.nvidia import Gpu
from bench.probes.timing import Arm

ENERGY_SECONDS = 2.0
VISIT_STEPS = 20
"""About how many steps a visit takes: whole periods of lazy regularization, so that every arm does its whole work."""


class FedArm(Arm, Protocol):
    """An arm of which it is known how many images a step takes, and after how many steps its work repeats."""

    @property
    def images_per_step(self) -> int:
        """Images of a step."""

    @property
    def period(self) -> int:
        """Steps after which the work repeats."""


def joules_per_1000_images(arm: FedArm, gpu: Gpu, device: torch.device) -> float | None:
    """Run the arm for two seconds between two readings of the GPU's energy counter; None without a counter.

    Of several processes it is this one's GPU and its images.
    """
    if gpu.energy_joules() is None:
        return None
    visit = arm.period * -(-VISIT_STEPS // arm.period)
    torch.cuda.synchronize(device)
    before, start, steps = gpu.energy_joules(), time.perf_counter(), 0
    while time.perf_counter() - start < ENERGY_SECONDS:
        with arm.turn():
            arm.run(visit)
        steps += visit
    torch.cuda.synchronize(device)
    after = gpu.energy_joules()
    if before is None or after is None:
        return None
    return (after - before) / (steps * arm.images_per_step) * 1000
