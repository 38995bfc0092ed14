"""What a run ran on: device, libraries, flags, commit. Facts only; what to doubt is the report's to say."""

import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import psutil
import torch

from bench.machine.nvidia import Gpu

LIBRARIES = ("torch", "torchvision", "numpy", "scipy")
ARM_FIELDS = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")


def describe(device: torch.device) -> dict[str, Any]:
    """Return the machine as plain JSON values; null where something cannot be known."""
    cuda = device.type == "cuda"
    gpu = Gpu(device)
    properties = torch.cuda.get_device_properties(device) if cuda else None
    return {
        "device": str(device),
        "gpu": properties.name if properties else None,
        "gpu_memory_mib": properties.total_memory // 2**20 if properties else None,
        "gpu_power_limit_watts": gpu.power_limit_watts(),
        "gpu_max_sm_clock_mhz": gpu.max_sm_clock_mhz(),
        "driver": gpu.driver(),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "cpu": _cpu_name(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "load_1min": round(os.getloadavg()[0], 2),
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "commit": _git("rev-parse", "--short=10", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
    }


def _cpu_name() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            fields = dict(_fields(file))
    except OSError:
        fields = {}
    if name := fields.get("model name"):
        return name
    # Of an ARM processor there are numbers: who made it, and which part and variant it is.
    numbers = [fields[key] for key in ARM_FIELDS if key in fields]
    architecture = platform.processor() or platform.machine() or None
    return f"{architecture} {' '.join(numbers)}" if numbers else architecture


def _fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give the fields of the first processor of /proc/cpuinfo."""
    for line in lines:
        key, colon, value = (part.strip() for part in line.partition(":"))
        if colon:
            yield key, value
        elif not line.strip():
            return


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
