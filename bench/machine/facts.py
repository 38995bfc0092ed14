"""What a run ran on: device, libraries, flags, commit. Facts only; what to doubt is the report's to say."""

import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from bench.machine.nvidia import Gpu
from bench.results.manifest import Machine

LIBRARIES = ("torch", "torchvision", "numpy", "scipy")
ARM_FIELDS = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")
ENVIRONMENT = (
    *("NVIDIA_TF32_OVERRIDE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"),
    *("CUDA_LAUNCH_BLOCKING", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS"),
)
"""What moves a number, and is noted whether it is set or not; what begins with a prefix, where it is set."""
PREFIXES = ("KMP_", "GOMP_")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe(device: torch.device) -> Machine:
    """Return the machine; None where something cannot be known."""
    cuda = device.type == "cuda"
    gpu = Gpu(device)
    properties = torch.cuda.get_device_properties(device) if cuda else None
    return Machine(
        device=str(device),
        gpu=properties.name if properties else None,
        gpu_memory_mib=properties.total_memory // 2**20 if properties else None,
        gpu_power_limit_watts=gpu.power_limit_watts(),
        gpu_max_sm_clock_mhz=gpu.max_sm_clock_mhz(),
        gpu_mig=gpu.mig(),
        gpu_ecc=gpu.ecc(),
        driver=gpu.driver(),
        cuda=torch.version.cuda if cuda else None,
        cudnn=torch.backends.cudnn.version() if cuda else None,
        cpu=_cpu_name(),
        cpu_cores=os.cpu_count(),
        cpu_governor=_governor(),
        threads=torch.get_num_threads(),
        memory_mib=psutil.virtual_memory().total // 2**20,
        load_1min=round(os.getloadavg()[0], 2),
        os=platform.platform(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        environment=_environment(),
        commit=_git("rev-parse", "--short=10", "HEAD"),
        dirty=bool(_git("status", "--porcelain")),
    )


def _environment() -> dict[str, str | None]:
    noted = {name: os.environ.get(name) for name in ENVIRONMENT}
    return noted | {name: os.environ[name] for name in sorted(os.environ) if name.startswith(PREFIXES)}


def _governor() -> str | None:
    try:
        return GOVERNOR.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _cpu_name() -> str | None:
    if platform.system() == "Darwin":  # where platform.processor() says "arm" of all of them
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine() or None
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
    return _output("git", *arguments)


def _output(*command: str) -> str | None:
    """Return what a command prints; None if it fails or prints nothing."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
