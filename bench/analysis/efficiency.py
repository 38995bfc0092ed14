"""How much of the device a step uses, round by round: pure functions of a case's row, None where not measured.

Both set one measurement of the case (a large matrix product of the same precision, the profile of the step) against the
step's time in every round, by the device's own clock where it has one.
"""

from collections.abc import Sequence

from bench.results.rows import Arm, CaseRow


def matmul_shares(row: CaseRow, scheme: str) -> list[float] | None:
    """Return the FLOP/s that an arm achieves over those of a large matrix product."""
    arm, best = row.arms.get(scheme), row.matmul_flops_per_s
    times = _step_ms(arm) if arm else ()
    if arm is None or not times or not arm.flops or not best:
        return None
    return [arm.flops / (ms / 1e3) / best for ms in times]


def busy_shares(row: CaseRow, scheme: str) -> list[float] | None:
    """Return the share of a step in which anything runs on the GPU; above 1 if the profiler slowed the kernels down."""
    arm = row.arms.get(scheme)
    times = _step_ms(arm) if arm else ()
    return [arm.busy_ms / ms for ms in times] if arm and times and arm.busy_ms else None


def _step_ms(arm: Arm) -> Sequence[float]:
    return arm.device_ms or arm.wall_ms
