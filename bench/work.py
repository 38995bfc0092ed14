"""What a step asks of the device, free of noise: FLOPs, operators, kernels; and, timed apart, the energy it takes."""

import time

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.arm import SchemeArm
from bench.nvidia import Gpu
from osgan.cost import count_work

ENERGY_SECONDS = 2.0


def count(arm: SchemeArm, device: torch.device) -> dict[str, int | None]:
    """Count a step of a warm arm; kernels are None without CUDA."""
    real, labels = arm.batch()
    work = count_work(arm.scheme, real, *labels)
    return {**work._asdict(), "kernels": _kernels(arm) if device.type == "cuda" else None}


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


def _kernels(arm: SchemeArm) -> int:
    with profile(activities=[ProfilerActivity.CUDA]) as profiler, arm.turn():
        arm.run(1)
        torch.cuda.synchronize()
    moves = ("Memcpy", "Memset")
    return sum(e.device_type == DeviceType.CUDA and not e.name.startswith(moves) for e in profiler.events())
