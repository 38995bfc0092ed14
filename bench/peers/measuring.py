"""One case: compares gradients, begins its arms, times them in turns, and returns the case's record."""

import gc
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.machine.watch import Watch
from bench.peers.arms import LoopArm, OurArm, TheirArm, device_batches
from bench.peers.check import compare, compare_loop
from bench.peers.peer import Case, LoopCase, PeerCase, Precision, Record, Settings
from bench.probes.timing import Arm, Finish, Rounds, Timer, interleave, named, timer_for, warm_up
from osgan import data
from osgan.cost import count_step
from osgan.errors import InputError
from osgan.training.engine import Engine

ROUND_MS = 200.0
FOLDER_STEPS = 60
"""Steps of a visit from a folder: several times what a loader with 8 processes has ready when the clock starts."""
IMAGES = "digits"
"""Where batches on the device come from; their content does not move the time of a step."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A checkout to measure, and how."""

    key: str
    path: Path
    settings: Settings
    precision: Precision = "fp32"
    engine: str = "eager"
    """Of our steps."""
    rounds: int | None = None
    budget_s: float = 30.0
    warmup_s: float = 10.0
    only: tuple[str, ...] = ()


@dataclass
class Ready:
    """What is timed of a case, whatever its kind."""

    checks: list[Record]
    begin: dict[str, Callable[[], Arm]]
    """Arm -> what builds it, on networks as they start; raises InputError where a scheme is not exact."""
    what: dict[str, str]
    about: dict[str, Any] = field(default_factory=dict)
    from_folder: dict[str, Arm] = field(default_factory=dict)
    """Arms that take another's place after the warm-up."""
    epoch: int | None = None
    """Steps of an epoch from a folder."""


def measure(case: Case, job: Job, report: Callable[[str], None]) -> Record:
    """Measure a case and return its record."""
    report(f"{case.name}: comparing gradients")
    ready = _loop(case) if isinstance(case, LoopCase) else _images(case, job)
    timer = timer_for(job.settings.device)
    found: dict[str, Record] = {}
    arms: dict[str, Arm] = {}
    for arm, begin in ready.begin.items():
        report(f"{case.name}: {arm}: warm-up")
        found[arm] = {"status": "ok", "reason": None, "what": ready.what[arm], "flops": None}
        try:
            started = begin()
            times, steady = warm_up(started, timer, budget_s=job.warmup_s)
            found[arm]["flops"] = _flops(started)
        except InputError as error:
            found[arm] |= {"status": "skipped", "reason": str(error)}
            continue
        except Exception as error:
            found[arm] |= {"status": "failed", "reason": named(error)}
            continue
        found[arm] |= {"warmup_steps": len(times), "steady": steady, "step_ms": statistics.median(times[-5:])}
        if isinstance(started, OurArm) and started.loop.fallbacks:
            found[arm]["fallbacks"] = started.loop.fallbacks
        arms[arm] = ready.from_folder.get(arm, started)
    rounds, notes = _time(case, ready, arms, found, job, timer, report)
    for arm in rounds.times:
        found[arm] |= {"wall_ms": rounds.wall_ms(arm), **rounds.device_clocks(arm)}
        if isinstance(ended := arms[arm], TheirArm | LoopArm):
            found[arm]["weights_finite"] = ended.finite
    for arm, reason in rounds.failures.items():
        found[arm] |= {"status": "failed", "reason": reason}
    return {
        "name": case.name,
        "from_folder": ready.epoch is not None,
        "about": {
            "batch_size": case.batch_size,
            **case.about,
            "loss": case.loss,
            "precision": job.precision,
            **ready.about,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        },
        "steps_per_round": rounds.steps,
        "rounds": len(rounds.order),
        "ended_by": rounds.ended_by,
        "order": rounds.order,
        "context": notes,
        "checks": ready.checks,
        "targets": case.targets,
        "judged": list(case.judged),
        "arms": found,
    }


def _loop(case: LoopCase) -> Ready:
    loops = {"theirs": (case.theirs, case.file)} | {arm: (ours.steps, ours.note) for arm, ours in case.ours.items()}
    return Ready(
        checks=compare_loop(case),
        begin={arm: partial(LoopArm, case, steps) for arm, (steps, _) in loops.items()},
        what={arm: what for arm, (_, what) in loops.items()},
        about={"engine": "eager (ours)"},
    )


def _images(case: Case, job: Job) -> Ready:
    assert isinstance(case, PeerCase)
    device, size = job.settings.device, case.batch_size
    source = IMAGES if case.folder is None else f"folder:{case.folder}"
    place = f"of {IMAGES}" if case.folder is None else "from the folder"
    dataset = data.load(source, resolution=case.image_shape[1], channels=case.image_shape[0], device=device)
    case.generator.to(device)
    case.discriminator.to(device)
    engine = Engine.parse(job.engine, job.precision)
    begin: dict[str, Callable[[], Arm]] = {
        arm: partial(TheirArm, theirs, size, device_batches(dataset, size)) for arm, theirs in case.theirs.items()
    }
    begin |= {arm: partial(OurArm, case, ours, dataset, engine) for arm, ours in case.ours.items()}
    ready = Ready(
        checks=compare(case, next(dataset.batches(size, seed=0))[0]),
        begin=begin,
        what={arm: theirs.file for arm, theirs in case.theirs.items()} | {a: o.note for a, o in case.ours.items()},
        about={
            "engine": f"{job.engine} (ours)",
            "images": f"{dataset.num_images} {place}{', on the device' if dataset.resident else ', streamed'}",
        },
    )
    if case.folder is not None:
        ready.from_folder = {arm: TheirArm(theirs, size) for arm, theirs in case.theirs.items()}
        ready.epoch = min(len(theirs.loader) for theirs in case.theirs.values())  # type: ignore[arg-type]
        if ready.epoch < 3:
            raise InputError(f"--folder {case.folder}: fewer than 3 batches of {size} images")
    return ready


def _flops(arm: Arm) -> int | None:
    """Count a step of an arm; None where it dispatches no operators (a compiled or captured step)."""
    if isinstance(arm, OurArm) and arm.loop.engine.mode != "eager":
        return None
    with arm.turn():
        # the lesser of two: one step may be one in which osgan.backward measures that it is exact
        return min(count_step(lambda: arm.run(1)).flops for _ in range(2)) or None


def _time(
    case: Case,
    ready: Ready,
    arms: dict[str, Arm],
    found: dict[str, Record],
    job: Job,
    timer: Timer,
    report: Callable[[str], None],
) -> tuple[Rounds, dict[str, Any]]:
    watch = Watch(job.settings.device)
    rounds = Rounds(0, ended_by="every arm failed")
    if not arms:
        return rounds, watch.notes()
    steps = max(1, math.ceil(ROUND_MS / min(found[arm]["step_ms"] for arm in arms)))
    if ready.epoch is not None:
        steps = min(
            max(steps, FOLDER_STEPS), ready.epoch - 2
        )  # without the first batch, and the last, which is not full
    reference = next((arm for arm in (*case.judged, *ready.begin) if arm in arms), next(iter(arms)))
    finish: Callable[[Rounds], str | None] = Finish(
        reference, target_half_width=0.01, min_rounds=15, budget_s=job.budget_s
    )
    if job.rounds is not None:
        finish = _Enough(job.rounds)
    gc.collect()
    gc.disable()  # a collection inside a round would be charged to whichever arm it hits
    try:
        for rounds in interleave(arms, timer, steps=steps, order=random.Random(0), finished=finish):
            gc.collect()
            watch.look()
            report(f"{case.name}: round {len(rounds.order)} of {steps} steps")
    finally:
        gc.enable()
    return rounds, watch.notes()


@dataclass(frozen=True)
class _Enough:
    rounds: int

    def __call__(self, rounds: Rounds) -> str | None:
        return "rounds" if len(rounds.order) >= self.rounds else None
