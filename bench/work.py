"""What a step asks of the device, free of noise: FLOPs and operators; and, timed apart, the energy it takes."""

import time

import torch

from bench.arm import SchemeArm
from bench.nvidia import Gpu
from osgan.cost import count_work

ENERGY_SECONDS = 2.0


def count(arm: SchemeArm) -> dict[str, int]:
    """Count a step of a warm arm, whatever its engine, as its scheme asks for it."""
    with arm.loop.plain():
        real, labels = arm.loop.draw()
        return count_work(arm.scheme, real, *labels)._asdict()


def joules_per_1000_images(arm: SchemeArm, gpu: Gpu, device: torch.device) -> float | None:
    """Run the arm for two seconds between two readings of the GPU's energy counter; None without a counter."""
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
    return (after - before) / (steps * arm.case.batch_size) * 1000
