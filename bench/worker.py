"""One process, one case, all its arms. What it finds goes to the runner through a pipe; it writes sample grids only."""

import gc
import math
import random
import signal
import statistics
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import make_grid, save_image

from bench.arm import SchemeArm
from bench.measure import Finish, Rounds, interleave, timer_for, warm_up
from bench.results import Record, slug
from bench.suite import Case, Suite
from osgan import data, nets
from osgan.cost import count_flops
from osgan.errors import InputError

Report = Callable[[str, float], None]


def main(suite: Suite, case: Case, device: str, root: str | None, run: Path, connection: Connection) -> None:
    """Run a case and send ("progress", what, share) messages and at last ("result", record)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which ends this process
    started = time.perf_counter()
    record: Record
    try:
        record = run_case(suite, case, torch.device(device), root, run, lambda *at: connection.send(("progress", *at)))
    except BrokenPipeError:
        return  # the runner is gone
    except InputError as error:
        record = failed(case, str(error))
    except Exception as error:
        traceback.print_exc()
        record = failed(case, f"{type(error).__name__}: {error}")
    record["took_s"] = round(time.perf_counter() - started, 3)
    connection.send(("result", record))


def failed(case: Case, reason: str) -> Record:
    """Return the record of a case that has nothing to show."""
    return {
        "name": case.name,
        "case": case.model_dump(),
        "status": "failed",
        "reason": reason,
        "rounds": 0,
        "ended_by": "",
        "arms": {},
    }


def run_case(suite: Suite, case: Case, device: torch.device, root: str | None, run: Path, report: Report) -> Record:
    """Build the arms of a case from one set of weights, time them in turns, train on, save their samples."""
    _set_precision()
    report("loading", 0.0)
    torch.manual_seed(suite.seed)
    dataset = data.load(case.dataset, resolution=nets.resolution_of(case.architecture), device=device, root=root)
    networks = nets.build(case.architecture, channels=dataset.image_shape[0], num_classes=dataset.num_classes)
    networks.generator.to(device)
    networks.discriminator.to(device)

    records: dict[str, Record] = {}
    arms: dict[str, SchemeArm] = {}
    for scheme in suite.schemes:
        records[scheme] = {"status": "ok", "reason": None}
        try:
            arms[scheme] = SchemeArm(case, scheme, networks, dataset, suite.optimizer, suite.seed)
        except InputError as error:
            records[scheme] |= {"status": "skipped", "reason": str(error)}

    def drop(scheme: str, reason: str) -> None:
        records[scheme] |= {"status": "failed", "reason": reason}
        arms.pop(scheme, None)

    timer = timer_for(device)
    step_ms = math.inf
    for index, (scheme, arm) in enumerate(list(arms.items())):
        report(f"{scheme}: warm-up", 0.1 * index / len(arms))
        try:
            times, steady = warm_up(arm, timer, budget_s=suite.timing.warmup_s)
            records[scheme] |= {
                "warmup_steps": len(times),
                "steady": steady,
                "flops": count_flops(arm.scheme, *_batch(arm)),
            }
            step_ms = min(step_ms, statistics.median(times))
            arm.restart()
        except Exception as error:
            drop(scheme, f"{type(error).__name__}: {error}")

    steps = max(1, math.ceil(suite.timing.round_ms / step_ms)) if arms else 0
    rounds = _time(suite, arms, timer, steps, report) if arms else Rounds(0, ended_by="every arm failed")
    for scheme, reason in rounds.failures.items():
        drop(scheme, reason)
    for scheme in rounds.times:
        records[scheme] |= {"wall_ms": rounds.wall_ms(scheme), "device_ms": rounds.device_ms(scheme)}

    for index, (scheme, arm) in enumerate(list(arms.items())):
        report(f"{scheme}: training for samples", 0.8 + 0.2 * index / len(arms))
        try:
            while arm.steps_done < suite.samples.steps:
                with arm.turn():
                    arm.run(min(50, suite.samples.steps - arm.steps_done))
                report(f"{scheme}: training for samples", 0.8 + 0.2 * index / len(arms))
            records[scheme] |= {
                "steps_trained": arm.steps_done,
                "samples": _save_samples(run, case, scheme, arm, suite),
            }
        except Exception as error:
            drop(scheme, f"{type(error).__name__}: {error}")
    real = _save_grid(run, case, "real", dataset.images(suite.samples.images), suite)

    reasons = [f"{scheme}: {r['reason']}" for scheme, r in records.items() if r["status"] == "failed"]
    return {
        "name": case.name,
        "case": case.model_dump(),
        "status": "failed" if reasons else "ok",
        "reason": "; ".join(reasons) or None,
        "steps_per_round": rounds.steps,
        "rounds": len(rounds.order),
        "ended_by": rounds.ended_by,
        "order": rounds.order,
        "real_samples": real,
        "arms": records,
    }


def _time(suite: Suite, arms: dict[str, SchemeArm], timer: Any, steps: int, report: Report) -> Rounds:
    timing = suite.timing
    finish = Finish("one_stage", timing.target_half_width, timing.min_rounds, timing.budget_s)
    rounds = Rounds(steps)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection inside a round would be charged to whichever arm it hits
    try:
        for rounds in interleave(arms, timer, steps=steps, order=random.Random(suite.seed), finished=finish):
            gc.collect()
            spent_s = steps * sum(sum(rounds.wall_ms(arm)) for arm in arms) / 1e3
            report(f"round {len(rounds.order)}", 0.1 + 0.7 * min(1.0, spent_s / timing.budget_s))
    finally:
        gc.enable()
        gc.unfreeze()
    return rounds


def _batch(arm: SchemeArm) -> tuple[torch.Tensor, torch.Tensor | None]:
    real, labels = arm.batch()
    return real, labels[0] if labels else None


def _set_precision() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _save_samples(run: Path, case: Case, scheme: str, arm: SchemeArm, suite: Suite) -> str:
    return _save_grid(run, case, scheme, arm.sample(suite.samples.images), suite)


def _save_grid(run: Path, case: Case, name: str, images: torch.Tensor, suite: Suite) -> str:
    relative = Path("samples") / slug(case.name) / f"{name}.png"
    (run / relative).parent.mkdir(parents=True, exist_ok=True)
    columns = math.ceil(math.sqrt(suite.samples.images))
    save_image(make_grid(images.float().cpu(), nrow=columns, normalize=True, value_range=(-1, 1)), run / relative)
    return relative.as_posix()
