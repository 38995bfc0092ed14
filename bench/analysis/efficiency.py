"""How much of the device a step uses, round by round: pure functions of a case's record, None where not measured.

Both set one measurement of the case (a large matrix product of the same precision, the profile of the step) against the
step's time in every round, by the device's own clock where it has one.
"""

from bench.results.store import Record


def matmul_shares(record: Record, scheme: str) -> list[float] | None:
    """Return the FLOP/s that an arm achieves over those of a large matrix product."""
    arm = record["arms"].get(scheme, {})
    times, flops, best = _step_ms(arm), arm.get("flops"), record.get("matmul_flops_per_s")
    if not times or not flops or not best:
        return None
    return [flops / (ms / 1e3) / best for ms in times]


def busy_shares(record: Record, scheme: str) -> list[float] | None:
    """Return the share of a step in which anything runs on the GPU; above 1 if the profiler slowed the kernels down."""
    arm = record["arms"].get(scheme, {})
    times, busy = _step_ms(arm), arm.get("busy_ms")
    return [busy / ms for ms in times] if times and busy else None


def _step_ms(arm: Record) -> list[float] | None:
    times: list[float] | None = arm.get("device_ms") or arm.get("wall_ms")
    return times
