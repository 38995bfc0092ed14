"""One process, one case, all its arms. What it finds goes to the runner through a pipe; it writes sample grids only."""

import copy
import gc
import math
import random
import statistics
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from bench import energy, kernels, memory, peak
from bench.arm import SchemeArm
from bench.cases import Case
from bench.context import Watch
from bench.games import DistillGame, GameArm, open_game
from bench.grids import save_grid
from bench.measure import Finish, Rounds, Timer, interleave, named, timer_for, warm_up
from bench.plans import Adam, Timing
from bench.quality import QualityJob, run_job
from bench.results import Record
from bench.split import split_step
from bench.suite import Suite
from bench.world import WorldArm, joined
from osgan import data, nets
from osgan.errors import InputError, MissingDataError, NotExactError

Report = Callable[[str, float], None]
GAN_ARMS = (SchemeArm, WorldArm)
BenchArm = SchemeArm | WorldArm | GameArm
SPLIT_STEPS = 10


@dataclass(frozen=True)
class Job:
    """A case to run, and where."""

    suite: Suite
    case: Case
    device: str
    root: str | None
    run: Path

    @property
    def name(self) -> str:
        """The case's."""
        return self.case.name

    @property
    def timing(self) -> Timing:
        """When the case has been timed enough."""
        assert self.suite.timing is not None
        return self.suite.timing

    def open(self, device: torch.device) -> Callable[..., BenchArm]:
        """Load the data and return the builder of arms by scheme, each from the same weights."""
        if self.case.game:
            return open_game(self.case, device, self.suite.seed)
        if self.case.distill:
            game = DistillGame(self.case, device, self.root)
            return lambda scheme, batch_size=None: game.arm(scheme, self.suite.seed, batch_size)
        architecture = self.case.architecture
        dataset = data.load(
            self.case.dataset, resolution=nets.resolution_of(architecture), device=device, root=self.root
        )
        torch.manual_seed(self.suite.seed)
        start = nets.build(architecture, channels=dataset.image_shape[0], num_classes=dataset.num_classes)

        def networks_of(architecture: str) -> nets.Networks:
            networks = copy.deepcopy(start)
            if architecture != self.case.architecture:
                torch.manual_seed(self.suite.seed)
                networks = nets.build(architecture, channels=dataset.image_shape[0], num_classes=dataset.num_classes)
            networks.generator.to(device)
            networks.discriminator.to(device)
            return networks

        def arm_of(scheme: str, batch_size: int | None = None) -> SchemeArm:
            own = self.suite.settings(self.case, scheme)
            rates = {key: value for key, value in own.items() if key in Adam.model_fields}
            optimizer = self.suite.optimizer.model_copy(update=rates)
            changes = {"batch_size": batch_size or self.case.batch_size}
            case = self.case.model_copy(update=changes | {k: v for k, v in own.items() if k == "architecture"})

            def build(scheme: str) -> SchemeArm:
                return SchemeArm(case, scheme, networks_of(case.architecture), dataset, optimizer, self.suite.seed)

            try:
                return build(scheme)
            except NotExactError as error:
                if self.suite.fallback is None:
                    raise
                arm = build(self.suite.fallback)
                arm.ran_as, arm.ran_as_because = self.suite.fallback, str(error)
                return arm

        return arm_of


def resident_growth(job: Job, scheme: str, deadline: float) -> memory.Peaks:
    """Return the peak memory of an arm on a CPU, measured in a process of its own."""
    return memory.on_cpu(partial(_prepare, job, scheme), deadline)


def _prepare(job: Job, scheme: str) -> memory.ArmBuilder:
    return partial(job.open(torch.device(job.device)), scheme)


def main(job: Job | QualityJob, connection: Connection) -> None:
    """Do a job and send ("progress", what, share) messages and at last ("result", record)."""

    def report(what: str, share: float) -> None:
        connection.send(("progress", what, share))

    if (device := torch.device(job.device)).type == "cuda":
        # Graphs and library handles are of the current device, whatever the tensors'.
        torch.cuda.set_device(torch.cuda.current_device() if device.index is None else device.index)
    try:
        record = run_job(job, report) if isinstance(job, QualityJob) else run_case(job, report)
    except BrokenPipeError:
        return  # the runner is gone
    except MissingDataError as error:  # the runner looks beforehand, but on its own machine only
        record = failed(job, str(error), "skipped")
    except InputError as error:
        record = failed(job, str(error))
    except Exception as error:
        traceback.print_exc()
        record = failed(job, named(error))
    connection.send(("result", record))


def failed(job: Job | QualityJob, reason: str, status: str = "failed") -> Record:
    """Return the record of a case that has nothing to show."""
    record: Record = {
        "name": job.name,
        "case": job.case.model_dump(exclude_none=True),
        "status": status,
        "reason": reason,
    }
    if isinstance(job, QualityJob):
        return record | {"variant": job.variant, "seed": job.seed, "arms": {}}
    return record | {"rounds": 0, "ended_by": "", "arms": {}}


def run_case(job: Job, report: Report) -> Record:
    """Measure the arms of a case, time them in turns, train on, save their samples; in all its processes."""
    report("loading", 0.0)
    with joined(job.open, job.case.world_size, torch.device(job.device)) as arm_of:
        return _run_arms(job, arm_of, report)


def _run_arms(job: Job, arm_of: Callable[..., BenchArm], report: Report) -> Record:
    timing, samples = job.timing, job.suite.samples
    device = torch.device(job.device)
    bench = _Bench(job.suite.schemes)
    matmul_flops_per_s = None
    with suppress(torch.OutOfMemoryError):  # before the arms, whose memory it would want
        matmul_flops_per_s = peak.matmul_flops_per_s(device, job.case.precision)

    if device.type == "cuda":  # before any arm is alive
        for scheme in job.suite.schemes:
            with bench.guard(scheme) as found:
                found |= memory.on_gpu(partial(arm_of, scheme), device)
                if job.suite.memory.largest_batch and job.case.world_size == 1:
                    found["largest_batch"] = memory.largest_batch(partial(arm_of, scheme), job.case.batch_size)
    for scheme in bench.alive:
        with bench.guard(scheme) as found:
            bench.arms[scheme] = arm_of(scheme)
            found |= _marks(job, scheme, bench.arms[scheme])

    timer = timer_for(device)
    watch = Watch(device)
    for index, (scheme, arm) in enumerate(list(bench.arms.items())):
        report(f"{scheme}: warm-up", 0.15 * index / len(bench.arms))
        with bench.guard(scheme) as found:
            start = arm.snapshot()
            times, steady = warm_up(arm, timer, budget_s=timing.warmup_s)
            found |= {"warmup_steps": len(times), "steady": steady, "step_ms": statistics.median(times[-5:])}
            found |= {"fallbacks": list(arm.fallbacks)} if arm.fallbacks else {}
            found |= arm.count()._asdict() | kernels.profile_step(arm, device, max(kernels.STEPS, _period(arm)))
            split_steps = max(SPLIT_STEPS, _period(arm))
            found["split_ms"] = split_step(arm, device, steps=split_steps) if isinstance(arm, GAN_ARMS) else None
            found["joules_per_1000_images"] = energy.joules_per_1000_images(arm, watch.gpu, device)
            if isinstance(arm, WorldArm):
                found |= arm.prediction()
            arm.restart(start)

    rounds = Rounds(0, ended_by="every arm failed")
    if bench.arms:
        fastest_ms = min(bench.found[scheme]["step_ms"] for scheme in bench.arms)
        period = max(_period(arm) for arm in bench.arms.values())  # a round is whole periods of lazy regularization
        steps = period * max(1, math.ceil(timing.round_ms / fastest_ms / period))
        rounds = _time(job, bench.arms, timer, steps, watch, report)
    notes = watch.notes()
    for scheme in rounds.times:
        bench.found[scheme] |= {"wall_ms": rounds.wall_ms(scheme), **rounds.device_clocks(scheme)}
    for scheme, reason in rounds.failures.items():
        bench.drop(scheme, "failed", reason)

    for index, (scheme, arm) in enumerate(list(bench.arms.items())):
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
        "case": job.case.model_dump(exclude_none=True),
        "status": "failed" if reasons else "ok",
        "reason": "; ".join(reasons) or None,
        "steps_per_round": rounds.steps,
        "rounds": len(rounds.order),
        "ended_by": rounds.ended_by,
        "order": rounds.order,
        "context": notes,
        "matmul_flops_per_s": matmul_flops_per_s,
        "real_samples": _save_real(job, next(iter(bench.arms.values()), None)),
        "arms": bench.found,
    }


def _period(arm: BenchArm) -> int:
    return arm.scheme.period if isinstance(arm, GAN_ARMS) else 1


def _marks(job: Job, scheme: str, arm: BenchArm) -> Record:
    """Say in what an arm is not what its name says, or differs from the other arms in more than the scheme."""
    marks: Record = {}
    if isinstance(arm, GAN_ARMS) and arm.ran_as:
        marks |= {"ran_as": arm.ran_as, "ran_as_because": arm.ran_as_because}
    if own := job.suite.settings(job.case, scheme):
        marks["overrides"] = own
    return marks


class _Bench:
    """The arms that are alive, and what has been found of all of them."""

    def __init__(self, schemes: tuple[str, ...]) -> None:
        self.arms: dict[str, BenchArm] = {}
        self.found: dict[str, Record] = {scheme: {"status": "ok", "reason": None} for scheme in schemes}

    @property
    def alive(self) -> list[str]:
        """The schemes that nothing has been said against."""
        return [scheme for scheme, found in self.found.items() if found["status"] == "ok"]

    def drop(self, scheme: str, status: str, reason: str) -> None:
        self.found[scheme] |= {"status": status, "reason": reason}
        self.arms.pop(scheme, None)

    @contextmanager
    def guard(self, scheme: str) -> Iterator[Record]:
        """Give the scheme's findings to fill; what goes wrong meanwhile is recorded there and ends this arm alone."""
        try:
            yield self.found[scheme]
        except InputError as error:
            self.drop(scheme, "skipped", str(error))
        except BrokenPipeError:
            raise
        except Exception as error:
            self.drop(scheme, "failed", named(error))


def _time(job: Job, arms: dict[str, BenchArm], timer: Timer, steps: int, watch: Watch, report: Report) -> Rounds:
    timing = job.timing
    finish = Finish("one_stage", timing.target_half_width, timing.min_rounds, timing.budget_s)
    rounds = Rounds(steps)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection inside a round would be charged to whichever arm it hits
    try:
        order = random.Random(job.suite.seed)
        for rounds in interleave(arms, timer, steps=steps, order=order, finished=finish):
            gc.collect()
            watch.look()
            report(f"round {len(rounds.order)}", 0.15 + 0.7 * min(1.0, rounds.spent_s / timing.budget_s))
    finally:
        gc.enable()
        gc.unfreeze()
    return rounds


def _save_real(job: Job, arm: BenchArm | None) -> str | None:
    if not isinstance(arm, GAN_ARMS):
        return None
    dataset = arm.dataset
    images, _ = next(dataset.batches(min(job.suite.samples.images, dataset.num_images), seed=job.suite.seed))
    return save_grid(job.run, job.name, "real", images)
