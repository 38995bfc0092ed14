"""One process, one case, all its arms. What it finds goes to the runner through a pipe; it writes sample grids only."""

import gc
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch

from bench.arms.arm import BenchArm
from bench.arms.opening import open_arms
from bench.arms.world import LostArmError, joined
from bench.machine.watch import Watch
from bench.probes import energy, kernels, matmul, memory
from bench.probes.timing import Finish, Rounds, Timer, interleave, named, preheat, timer_for, warm_up
from bench.results.checks import Found
from bench.results.grids import save_grid
from bench.results.writing import UnwritableError
from bench.suite.jobs import Job
from osgan.errors import InputError

Report = Callable[[str, float], None]
PHASE_STEPS = 10


def resident_growth(job: Job, scheme: str, deadline: float) -> memory.Peaks:
    """Return the peak memory of an arm on a CPU, measured in a process of its own."""
    return memory.on_cpu(partial(_prepare, job, scheme), deadline)


def _prepare(job: Job, scheme: str) -> memory.ArmBuilder:
    return partial(open_arms(job, torch.device(job.device)), scheme)


def run_case(job: Job, report: Report) -> Found:
    """Measure the arms of a case, time them in turns, train on, save their samples; in all its processes.

    An arm that fails in a step of several processes leaves them out of step: the others are measured anew.
    """
    lost: dict[str, str] = {}
    while True:
        report("loading", 0.0)
        try:
            with joined(partial(open_arms, job), job.case.world_size, torch.device(job.device)) as arm_of:
                return _run_arms(job, arm_of, lost, report)
        except LostArmError as error:
            lost[error.scheme] = error.reason
        gc.collect()  # the arms of before are in cycles, and hold memory


def _run_arms(job: Job, arm_of: Callable[..., BenchArm], lost: Mapping[str, str], report: Report) -> Found:
    timing, samples = job.timing, job.suite.samples
    device = torch.device(job.device)
    bench = _Bench(job.suite.schemes)
    for scheme, reason in lost.items():
        bench.drop(scheme, "failed", reason)
    matmul_flops_per_s = None
    if job.process == 0:
        with suppress(torch.OutOfMemoryError):  # before the arms, whose memory it would want
            matmul_flops_per_s = matmul.matmul_flops_per_s(device, job.case.precision)

    if device.type == "cuda" and job.process == 0:  # before any arm is alive
        for scheme in job.suite.schemes:
            with bench.guard(scheme) as found:
                found |= memory.on_gpu(partial(arm_of, scheme), device)
                if job.suite.memory.largest_batch and job.case.world_size == 1:
                    parts = job.suite.optimizer.accumulate if job.case.is_gan else 1
                    arm_of_batch = partial(arm_of, scheme)
                    largest, ended_by = memory.largest_batch(arm_of_batch, job.case.batch_size, parts=parts)
                    found |= {"largest_batch": largest, "largest_batch_ended_by": ended_by}
    # What it is worth to be built first, in a memory that is still empty, is not one scheme's.
    for scheme in random.Random(f"built {job.suite.seed} {job.process}").sample(bench.alive, len(bench.alive)):
        with bench.guard(scheme) as found:
            bench.arms[scheme] = arm_of(scheme)
            found |= _marks(job, scheme, bench.arms[scheme])

    timer = timer_for(device)
    watch = Watch(device)
    starts: dict[str, list[Any]] = {}
    for index, (scheme, arm) in enumerate(list(bench.arms.items())):
        report(f"{scheme}: warm-up", 0.15 * index / len(bench.arms))
        with bench.guard(scheme) as found:
            starts[scheme] = arm.snapshot()
            times, steady = warm_up(arm, timer, budget_s=timing.warmup_s)
            found |= {"warmup_steps": len(times), "steady": steady, "step_ms": statistics.median(times[-5:])}
            found |= {"fallbacks": list(arm.fallbacks)} if arm.fallbacks else {}
            found |= _measured_once(arm, device, watch) if job.process == 0 else {}

    rounds = Rounds(0, ended_by="every arm failed")
    if bench.arms:
        fastest_ms = min(bench.found[scheme]["step_ms"] for scheme in bench.arms)
        period = max(arm.period for arm in bench.arms.values())  # a round is whole periods of lazy regularization
        steps = period * max(1, math.ceil(timing.round_ms_on(device.type) / fastest_ms / period))
        preheat(bench.arms, timer, timing.preheat_on(device.type), steps=steps)
        for scheme, arm in bench.arms.items():
            arm.restart(starts[scheme])
        starts.clear()  # the rounds are not to hold their memory
        rounds = _time(job, bench.arms, timer, steps, watch, report)
    notes = watch.notes()
    for scheme in rounds.times:
        bench.found[scheme] |= {"wall_ms": rounds.wall_ms(scheme), **rounds.device_clocks(scheme)}
    for scheme, reason in rounds.failures.items():
        bench.drop(scheme, "failed", reason)

    for index, (scheme, arm) in enumerate(list(bench.arms.items()) if job.process == 0 else []):
        with bench.guard(scheme) as found:
            while arm.steps_done < samples.steps:
                report(f"{scheme}: training for samples", 0.85 + 0.15 * index / len(bench.arms))
                with arm.turn():
                    arm.run(min(50, samples.steps - arm.steps_done))
            found |= {"steps_trained": arm.steps_done}
            images = arm.sample(samples.images)
            found["samples"] = None if images is None else save_grid(job.run, job.name, scheme, images)

    reasons = [f"{scheme}: {r['reason']}" for scheme, r in bench.found.items() if r["status"] == "failed"]
    return {
        "name": job.case.name,
        "process": job.process,
        "case": job.case.model_dump(exclude_none=True),
        "status": "failed" if reasons else "ok",
        "reason": "; ".join(reasons) or None,
        "steps_per_round": rounds.steps,
        "rounds": len(rounds.order),
        "ended_by": rounds.ended_by,
        "order": rounds.order,
        "context": notes,
        "matmul_flops_per_s": matmul_flops_per_s,
        "real_samples": _save_real(job, next(iter(bench.arms.values()), None)) if job.process == 0 else None,
        "arms": bench.found,
    }


def _measured_once(arm: BenchArm, device: torch.device, watch: Watch) -> Found:
    """Return what a step does and takes, which the first process of a case measures for all."""
    found: Found = arm.count()._asdict() | kernels.profile_step(arm, device, _whole_periods(kernels.STEPS, arm))
    found["phases_ms"] = arm.phases(device, _whole_periods(PHASE_STEPS, arm))
    found["joules_per_1000_images"] = energy.joules_per_1000_images(arm, watch.gpu, device)
    return found | arm.prediction()


def _whole_periods(steps: int, arm: BenchArm) -> int:
    """Return at least so many steps, in whole periods of lazy regularization."""
    return arm.period * -(-steps // arm.period)


def _marks(job: Job, scheme: str, arm: BenchArm) -> Found:
    """Say in what an arm is not what its name says, or differs from the other arms in more than the scheme."""
    marks: Found = {}
    if arm.ran_as:
        marks |= {"ran_as": arm.ran_as, "ran_as_because": arm.ran_as_because}
    if own := job.suite.settings(job.case, scheme):
        marks["overrides"] = own
    return marks


class _Bench:
    """The arms that are alive, and what has been found of all of them."""

    def __init__(self, schemes: tuple[str, ...]) -> None:
        self.arms: dict[str, BenchArm] = {}
        self.found: dict[str, Found] = {scheme: {"status": "ok", "reason": None} for scheme in schemes}

    @property
    def alive(self) -> list[str]:
        """The schemes that nothing has been said against."""
        return [scheme for scheme, found in self.found.items() if found["status"] == "ok"]

    def drop(self, scheme: str, status: str, reason: str) -> None:
        self.found[scheme] |= {"status": status, "reason": reason}
        self.arms.pop(scheme, None)

    @contextmanager
    def guard(self, scheme: str) -> Iterator[Found]:
        """Give the scheme's findings to fill; what goes wrong meanwhile is recorded there and ends this arm alone."""
        try:
            yield self.found[scheme]
        except (BrokenPipeError, UnwritableError):
            raise
        except InputError as error:
            self.drop(scheme, "skipped", str(error))
        except Exception as error:
            self.drop(scheme, "failed", named(error))


def _time(job: Job, arms: dict[str, BenchArm], timer: Timer, steps: int, watch: Watch, report: Report) -> Rounds:
    timing = job.timing
    finish = Finish("one_stage", timing.target_half_width, timing.min_rounds, timing.process_budget_s)
    rounds = Rounds(steps)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection inside a round would be charged to whichever arm it hits
    try:
        order = random.Random(f"{job.suite.seed} {job.process}")
        for rounds in interleave(arms, timer, steps=steps, order=order, finished=finish):
            gc.collect()
            watch.look()
            report(f"round {len(rounds.order)}", 0.15 + 0.7 * min(1.0, rounds.spent_s / timing.process_budget_s))
    finally:
        gc.enable()
        gc.unfreeze()
    return rounds


def _save_real(job: Job, arm: BenchArm | None) -> str | None:
    images = arm.real_images(job.suite.samples.images) if arm else None
    return None if images is None else save_grid(job.run, job.name, "real", images)
