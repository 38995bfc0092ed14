"""What a sceptic would hold against a case's numbers: pure functions of its row, each doubt a sentence."""

import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from bench.analysis.speedup import REFERENCE, Comparison, replicates
from bench.analysis.statistics import is_autocorrelated, log_ratios
from bench.results.parts import Context
from bench.results.rows import Arm, CaseRow

FEW_ROUNDS = 20
BUSY_SHARE = 0.1
DRIFT = 0.1
GAP = 0.1
CEILING_MARGIN = 1.05
HOST_BOUND = 0.9


def doubts(row: CaseRow, comparisons: list[Comparison]) -> list[str]:
    """Return the doubts about one case and its comparisons, in a fixed order; none is a good sign, not a proof."""
    arms = {scheme: arm for scheme, arm in row.arms.items() if arm.status == "ok" and arm.wall_ms}
    if not arms:
        return []
    machine = _of_the_machine(row.context or Context())
    neighbours = _of_neighbours(row, arms)
    times = _of_times(row, arms)
    return [*_of_the_run(row), *neighbours, *machine, *_of_engines(arms), *times, *_of(comparisons)]


def bound(arm: Arm) -> str | None:
    """Say what a step of an arm waits for: `host`, `device`, or None where the device has no clock of its own.

    Host-bound is a step that is over when the host has issued it: its speedup comes from fewer launches, not less work.
    Not so where the device is busy all the time: a full launch queue makes the host wait, not the device.
    """
    if not arm.host_ms or not arm.wall_ms:
        return None
    if arm.busy_ms and arm.device_ms and arm.busy_ms >= HOST_BOUND * statistics.median(arm.device_ms):
        return "device"
    share = statistics.median(h / w for h, w in zip(arm.host_ms, arm.wall_ms, strict=True))
    return "host" if share >= HOST_BOUND else "device"


def _of_the_run(row: CaseRow) -> Iterator[str]:
    if row.rounds < FEW_ROUNDS:
        yield f"few rounds: {row.rounds}, where {FEW_ROUNDS} make a sound interval"
    if row.ended_by == "budget_s":
        yield "the time was spent before every interval was as narrow as the suite asks"
    if row.status != "ok" and len(row.processes) > 1:
        yield f"not every process of it was done: {row.reason}"


def _of_the_machine(context: Context) -> Iterator[str]:
    if (share := context.others_cpu_share) is not None and share > BUSY_SHARE:
        yield f"a busy machine: other processes took {share:.0%} of its processors"
    if reasons := context.throttling:
        yield f"the GPU was throttled: {', '.join(reasons)}"
    if (clocks := context.sm_clock_mhz) and clocks[0] < (1 - DRIFT) * clocks[1]:
        yield f"the GPU's clock moved between {clocks[0]} and {clocks[1]} MHz"


def _of_neighbours(row: CaseRow, arms: dict[str, Arm]) -> Iterator[str]:
    """Doubt a case that had others of its run beside it, where they took something from it: the processors."""
    count = len(row.beside or ())
    others = f"{count} other case{'s' if count > 1 else ''} of this run"
    host_bound = [scheme for scheme, arm in arms.items() if bound(arm) == "host"]
    if count and (row.machine is None or row.machine.gpu is None):
        yield f"{others} ran on the same CPU meanwhile"
    elif count and host_bound:
        yield f"{others} ran on the same machine meanwhile, and these wait for its processors: {', '.join(host_bound)}"


def _of_engines(arms: dict[str, Arm]) -> Iterator[str]:
    """Name what the engine could not do, and whether only some of the arms had to do without it."""
    by_cause: dict[str, list[str]] = {}
    for scheme, arm in arms.items():
        for cause in arm.fallbacks or ():
            by_cause.setdefault(cause, []).append(scheme)
    for cause, schemes in by_cause.items():
        if len(schemes) == len(arms):
            yield f"timed without what was asked for: {cause}"
        else:
            yield f"the arms did not have the same engine: {', '.join(schemes)}: {cause}"


def _of_times(row: CaseRow, arms: dict[str, Arm]) -> Iterator[str]:
    def times_of(scheme: str) -> Iterator[Sequence[float]]:
        return (process.arms[scheme].wall_ms for process in row.processes if scheme in process.arms)

    unsteady = [scheme for scheme, arm in arms.items() if arm.steady is False]
    if unsteady:
        yield f"not steady after the warm-up: {', '.join(unsteady)}"
    if drifting := [
        scheme for scheme, arm in arms.items() if any(abs(_drift(times)) > DRIFT for times in times_of(scheme))
    ]:
        yield f"drift of more than {DRIFT:.0%} from the first to the last third of the rounds: {', '.join(drifting)}"
    if split := [scheme for scheme in arms if any(map(_is_bimodal, times_of(scheme)))]:
        yield f"bimodal times: {', '.join(split)}"
    if REFERENCE in arms:
        others = [scheme for scheme in arms if scheme != REFERENCE]
        depend = [s for s in others if all(is_autocorrelated(log_ratios(*pair)) for pair in replicates(row, s))]
        if depend:
            yield f"the ratio of a round depends on that of the round before, in every process: {', '.join(depend)}"


def _of(comparisons: list[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        if comparison.speedup and comparison.ceiling and comparison.speedup.low > CEILING_MARGIN * comparison.ceiling:
            yield (
                f"{comparison.baseline} over {REFERENCE} is {comparison.speedup.estimate:.2f}, above its FLOP ceiling "
                f"of {comparison.ceiling:.2f}: the gain is not of arithmetic alone"
            )


def _drift(times: Sequence[float]) -> float:
    third = len(times) // 3
    return statistics.median(times[-third:]) / statistics.median(times[:third]) - 1 if third else 0.0


def _is_bimodal(times: Sequence[float]) -> bool:
    """Whether a gap of a tenth of the median parts the times, with a fifth of them or more on either side."""
    ordered = np.sort(np.asarray(times))
    fifth = max(2, len(ordered) // 5)
    if len(ordered) < 2 * fifth:
        return False
    gaps = np.diff(ordered)[fifth - 1 : len(ordered) - fifth]
    return bool(gaps.size and gaps.max() > GAP * np.median(ordered))
