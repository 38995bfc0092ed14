"""One process, one checkout: compares gradients, times its arms in turns, and sends its record after each case."""

import contextlib
import gc
import math
import multiprocessing
import os
import random
import statistics
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from bench.machine.watch import Watch
from bench.peers import mimicry, osgan_authors, pytorch_dcgan
from bench.peers.arms import OurArm, TheirArm, device_batches
from bench.peers.check import compare
from bench.peers.peer import Changes, Peer, PeerCase, Precision, Record, Settings
from bench.probes.timing import Arm, Finish, Rounds, Timer, interleave, named, timer_for, warm_up
from osgan import data
from osgan.errors import InputError
from osgan.training.engine import Engine

PEERS: dict[str, Peer] = {adapter.PEER.key: adapter.PEER for adapter in (osgan_authors, mimicry, pytorch_dcgan)}

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


def empty_record(job: Job) -> Record:
    """Return the record of a checkout of which nothing is measured."""
    peer = PEERS[job.key]
    commit = _git(job.path, "rev-parse", "HEAD")
    return {
        "key": peer.key,
        "title": peer.title,
        "url": peer.url,
        "commit": commit,
        "dirty": None if commit is None else bool(_git(job.path, "status", "--porcelain", "--untracked-files=no")),
        "status": "failed",
        "reason": "its process ended without a result",
        "patched": [],
        "remarks": [],
        "cases": [],
    }


def _git(path: Path, *arguments: str) -> str | None:
    """Ask git about a checkout; None where the folder is none itself, though it may lie within one."""
    if not (path / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(path), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def main(job: Job, connection: Connection) -> None:
    """Measure one checkout, in a process of its own, and send its record after each case."""
    warnings.filterwarnings("ignore")  # deprecations that their code meets: theirs to mend
    # Their loaders' processes are forks, as when a script is started by itself; this process would pass on its own way,
    # which imports every library again in each of them.
    multiprocessing.set_start_method("fork", force=True)
    record = empty_record(job)
    try:
        with (
            tempfile.TemporaryDirectory() as place,
            contextlib.chdir(place),  # scripts write where they are
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            for record in measured(job, lambda what: connection.send(("at", what))):
                connection.send(("record", record))
    except BrokenPipeError:
        return  # the runner is gone
    except InputError as error:
        connection.send(("record", record | {"status": "failed", "reason": str(error)}))
    except Exception as error:
        traceback.print_exc()
        connection.send(("record", record | {"status": "failed", "reason": named(error)}))


def measured(job: Job, report: Callable[[str], None]) -> Iterator[Record]:
    """Yield the checkout's record as it grows by a case."""
    device = job.settings.device
    if device.index is not None:
        torch.cuda.set_device(device)  # theirs knows no other
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job.precision == "tf32"
    changes = Changes()
    report("loading the checkout")
    cases = PEERS[job.key].open(job.path, job.settings, changes)
    chosen = [case for case in cases if not job.only or any(fnmatch(case.name, f"*{pattern}*") for pattern in job.only)]
    if not chosen:
        raise InputError(f"no case holds {' or '.join(job.only)}; there is: {', '.join(case.name for case in cases)}")
    del cases
    record = empty_record(job) | {"status": "ok", "reason": None}
    while chosen:
        record["cases"].append(_measure(chosen.pop(0), job, report))
        record |= {"patched": changes.patched, "remarks": changes.remarks}
        yield record


def _measure(case: PeerCase, job: Job, report: Callable[[str], None]) -> Record:
    device, size = job.settings.device, case.batch_size
    source = IMAGES if case.folder is None else f"folder:{case.folder}"
    place = f"of {IMAGES}" if case.folder is None else "from the folder"
    dataset = data.load(source, resolution=case.image_shape[1], channels=case.image_shape[0], device=device)
    case.generator.to(device)
    case.discriminator.to(device)
    report(f"{case.name}: comparing gradients")
    checks = compare(case, next(dataset.batches(size, seed=0))[0])
    timer = timer_for(device)
    found: dict[str, Record] = {}
    arms: dict[str, Arm] = {}
    ready = {arm: TheirArm(theirs, size, device_batches(dataset, size)) for arm, theirs in case.theirs.items()}
    for arm in (*case.theirs, *case.ours):
        report(f"{case.name}: {arm}: warm-up")
        what = case.theirs[arm].file if arm in ready else case.ours[arm].note
        found[arm] = {"status": "ok", "reason": None, "what": what}
        try:
            started = ready.get(arm) or OurArm(case, case.ours[arm], dataset, Engine.parse(job.engine, job.precision))
            times, steady = warm_up(started, timer, budget_s=job.warmup_s)
        except InputError as error:
            found[arm] |= {"status": "skipped", "reason": str(error)}
            continue
        except Exception as error:
            found[arm] |= {"status": "failed", "reason": named(error)}
            continue
        found[arm] |= {"warmup_steps": len(times), "steady": steady, "step_ms": statistics.median(times[-5:])}
        if isinstance(started, OurArm) and started.loop.fallbacks:
            found[arm]["fallbacks"] = started.loop.fallbacks
        arms[arm] = TheirArm(case.theirs[arm], size) if case.folder and arm in ready else started
    rounds, notes = _time(case, arms, found, job, timer, report)
    for arm in rounds.times:
        found[arm] |= {"wall_ms": rounds.wall_ms(arm), **rounds.device_clocks(arm)}
        if isinstance(theirs := arms[arm], TheirArm):
            found[arm]["weights_finite"] = theirs.finite
    for arm, reason in rounds.failures.items():
        found[arm] |= {"status": "failed", "reason": reason}
    return {
        "name": case.name,
        "from_folder": case.folder is not None,
        "about": {
            "batch_size": size,
            **case.about,
            "loss": case.loss,
            "precision": job.precision,
            "engine": f"{job.engine} (ours)",
            "images": f"{dataset.num_images} {place}{', on the device' if dataset.resident else ', streamed'}",
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        },
        "steps_per_round": rounds.steps,
        "rounds": len(rounds.order),
        "ended_by": rounds.ended_by,
        "order": rounds.order,
        "context": notes,
        "checks": checks,
        "targets": case.targets,
        "judged": list(case.judged),
        "arms": found,
    }


def _time(
    case: PeerCase,
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
    if case.folder:
        epoch = min(len(theirs.loader) for theirs in case.theirs.values())  # type: ignore[arg-type]
        if epoch < 3:
            raise InputError(f"--folder {case.folder}: fewer than 3 batches of {case.batch_size} images")
        steps = min(max(steps, FOLDER_STEPS), epoch - 2)  # without the first batch, and the last, which is not full
    reference = next((arm for arm in (*case.judged, *case.ours) if arm in arms), next(iter(arms)))
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
