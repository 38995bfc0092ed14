"""A training run as its user sees it: progress, and when to log, save, sample and judge.

Everything here happens between steps, every `LOG_EVERY` of them and where something is due. Of several processes all
train and judge; the first alone shows and writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from osgan.commands.log import run_log, writer_without_tracebacks
from osgan.errors import InputError
from osgan.parallel import processes
from osgan.training import checkpoint
from osgan.training.checkpoint import Checkpoint
from osgan.training.trainer import Trainer

if TYPE_CHECKING:
    from osgan.metrics import Judge, Quality

LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to keep of a run, in real images from one to the next; None for never but at the end."""

    checkpoint_every: int | None = None
    sample_every: int | None = None
    evaluate_every: int | None = None
    keep: int = 3
    grid_images: int = 64


def open_run(folder: Path, trainer: Trainer) -> int:
    """Go on from the newest whole checkpoint in `folder`, or begin; returns the step. Raises InputError if it differs.

    A checkpoint that is damaged is passed over with a warning. Several processes must find the same one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None
    saved: Checkpoint | None = checkpoint.load_newest(folder)
    if saved is not None:
        trainer.resume(saved)
    if len(set(found := processes.gather_to_all(trainer.num_steps))) > 1:
        raise InputError(
            f"the processes found checkpoints of different steps in {folder}: {found}, by rank; the folder must be on "
            "a file system that all of them share"
        )
    return trainer.num_steps


class Stopped(Exception):  # noqa: N818, it is no error
    """The user asked a run to stop; what it had done by then is saved."""


def run(
    trainer: Trainer,
    folder: Path,
    plan: Plan,
    console: Console,
    judge: "Judge | None" = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> "list[Quality]":
    """Train to the end of the recipe; writes checkpoints, samples/, tensorboard/ and quality.jsonl to `folder`.

    What is due at a number of images is done at the step that reaches it; a checkpoint comes before the evaluation of
    its step. Once `stopping` says so, a checkpoint is written and Stopped raised. Raises InputError where the folder
    cannot be written to, NonFiniteLossError for a training that is lost.
    """
    try:
        with writer_without_tracebacks():
            return _run(trainer, folder, plan, console, judge, stopping)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}; what was saved before is kept: make room") from error


def _run(
    trainer: Trainer, folder: Path, plan: Plan, console: Console, judge: "Judge | None", stopping: Callable[[], bool]
) -> "list[Quality]":
    recipe, found = trainer.recipe, []
    with run_log(folder, trainer.images_seen) as log, _progress_bar(console) as progress:
        task = progress.add_task(
            recipe.scheme, total=recipe.num_steps * recipe.images_per_step, completed=trainer.images_seen, speed=""
        )
        saved_at = trainer.num_steps
        while (step := trainer.num_steps) < recipe.num_steps:
            start, planned = time.perf_counter(), _steps_to_what_is_due(trainer, plan)
            for _ in range(planned):
                trainer.train(1)
                if stopping():
                    break
            losses = trainer.losses()
            speed = len(losses) * recipe.images_per_step / (time.perf_counter() - start)
            of_d, of_g = losses[-1]
            shown = f"D {of_d:.3f}, G {of_g:.3f}, {speed:,.0f} images/s"
            progress.update(task, completed=trainer.images_seen, speed=shown)
            last = trainer.num_steps == recipe.num_steps
            if log:
                log.losses(losses, speed, trainer.images_seen)
            if stopping() or last or _passed(plan.checkpoint_every, step, trainer):
                trainer.save(folder, keep=plan.keep)
                saved_at = trainer.num_steps
            if stopping() and not last:
                raise Stopped
            if log and (last or _passed(plan.sample_every, step, trainer)):
                log.samples(trainer.sample(plan.grid_images), trainer.images_seen)
            if judge and (last or _passed(plan.evaluate_every, step, trainer)):
                if saved_at != trainer.num_steps:
                    trainer.save(folder, keep=plan.keep)
                    saved_at = trainer.num_steps
                found.append(_judged(trainer, judge, progress, stopping))
                _show(console, found[-1], trainer.images_seen)
                if log:
                    log.quality(found[-1], trainer.images_seen)
    return found


def _show(console: Console, quality: "Quality", images: int) -> None:
    values = ", ".join(f"{name} {value:.3f}" for name, value in quality.values.items())
    told = "; ".join((f"{quality.num_fake} images", *quality.notes))
    console.print(f"after {images} images: {values} ({told})", markup=False, highlight=False, soft_wrap=True)


def _judged(trainer: Trainer, judge: "Judge", progress: Progress, stopping: Callable[[], bool]) -> "Quality":
    task = progress.add_task("evaluating", total=judge.num_images, speed="")

    def generate(n: int) -> Tensor:
        if stopping():
            raise Stopped
        images = trainer.generate(n)
        progress.update(task, advance=n)
        return images

    try:
        trainer.share_buffers()
        return judge(generate)
    finally:
        progress.remove_task(task)


def _steps_to_what_is_due(trainer: Trainer, plan: Plan) -> int:
    """Return how many steps lead to the next thing to do: a log, a checkpoint, samples, an evaluation, the end."""
    left, seen = trainer.recipe.num_steps - trainer.num_steps, trainer.images_seen
    intervals = (every for every in (plan.checkpoint_every, plan.sample_every, plan.evaluate_every) if every)
    due = (-(-((seen // every + 1) * every - seen) // trainer.recipe.images_per_step) for every in intervals)
    return min(LOG_EVERY, left, *due)


def _passed(every: int | None, step_before: int, trainer: Trainer) -> bool:
    """Whether a multiple of `every` images was passed since that step."""
    return every is not None and trainer.images_seen // every > step_before * trainer.recipe.images_per_step // every


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} images"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )
