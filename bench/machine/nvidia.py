"""What NVIDIA's management library tells of the GPU: energy, clocks, throttling, power limit, or None."""

from contextlib import suppress
from typing import Any

import torch

try:
    import pynvml  # type: ignore[import-untyped]
except ImportError:  # an optional package
    pynvml = None

# NVML counts the nanoseconds for which each of these has held the clocks down since the driver was loaded.
HELD_DOWN_BY = {"power": 0, "thermal": 1, "board_limit": 3, "reliability": 5}
# Reasons that mean "slower than it could be"; idle and application clocks are not among them.
THROTTLE_REASONS = {"power": 0x4, "hardware": 0x8, "thermal": 0x20 | 0x40, "power_brake": 0x80}


class Gpu:
    """One GPU; every reading is None without the library, the driver or the counter."""

    def __init__(self, device: torch.device) -> None:
        self._handle: Any = None
        if pynvml is None or device.type != "cuda":
            return
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def energy_joules(self) -> float | None:
        """Return the total energy counter."""
        millijoules = self._read("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def sm_clock_mhz(self) -> int | None:
        """Return the clock of the multiprocessors now."""
        return self._read("nvmlDeviceGetClockInfo", 1)

    def max_sm_clock_mhz(self) -> int | None:
        """Return the highest clock of the multiprocessors."""
        return self._read("nvmlDeviceGetMaxClockInfo", 1)

    def power_limit_watts(self) -> float | None:
        """Return the enforced power limit."""
        milliwatts = self._read("nvmlDeviceGetEnforcedPowerLimit")
        return None if milliwatts is None else milliwatts / 1e3

    def driver(self) -> str | None:
        """Return the driver's version."""
        if self._handle is None:
            return None
        with suppress(pynvml.NVMLError):
            return str(pynvml.nvmlSystemGetDriverVersion())
        return None

    def mig(self) -> bool | None:
        """Return whether the GPU is partitioned now."""
        modes = self._read("nvmlDeviceGetMigMode")
        return None if modes is None else bool(modes[0])

    def ecc(self) -> bool | None:
        """Return whether its memory corrects errors now."""
        modes = self._read("nvmlDeviceGetEccMode")
        return None if modes is None else bool(modes[0])

    def held_down_s(self) -> dict[str, float] | None:
        """Return for how many seconds so far each cause has held the clocks down; None without these counters."""
        found = {cause: self._read("nvmlDeviceGetViolationStatus", policy) for cause, policy in HELD_DOWN_BY.items()}
        known = {cause: status.violationTime / 1e9 for cause, status in found.items() if status is not None}
        return known or None

    def throttling(self) -> list[str] | None:
        """Return why the clocks are held down now; an empty list if they are not."""
        mask = self._read("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if mask is None else [name for name, bit in THROTTLE_REASONS.items() if mask & bit]

    def _read(self, function: str, *arguments: int) -> Any:
        if self._handle is None:
            return None
        with suppress(pynvml.NVMLError):
            return getattr(pynvml, function)(self._handle, *arguments)
        return None
