"""A training run as its user sees it: progress, TensorBoard, sample grids, checkpoints, quality.

Everything here happens between steps, every `LOG_EVERY` of them and where something is due. Of several processes all
train and judge; the first alone shows and writes.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torchvision.utils import make_grid, save_image

from osgan.errors import InputError
from osgan.metrics import Judge, Quality
from osgan.parallel import processes
from osgan.training import checkpoint
from osgan.training.checkpoint import Checkpoint
from osgan.training.trainer import Trainer

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
    judge: Judge | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> list[Quality]:
    """Train to the end of the recipe; writes checkpoints, samples/, tensorboard/ and quality.jsonl to `folder`.

    What is due at a number of images is done at the step that reaches it; a checkpoint comes before the evaluation of
    its step. Once `stopping` says so, a checkpoint is written and Stopped raised. Raises InputError where the folder
    cannot be written to, NonFiniteLossError for a training that is lost.
    """
    try:
        with _writer_without_tracebacks():
            return _run(trainer, folder, plan, console, judge, stopping)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}; what was saved before is kept: make room") from error


@contextmanager
def _writer_without_tracebacks() -> Iterator[None]:
    """Keep TensorBoard's thread from printing what it could not write: the same error is raised here."""
    before, shown = set(threading.enumerate()), threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.exc_value, OSError):
            shown(failure)

    threading.excepthook = hook
    try:
        yield
    except OSError:
        for thread in set(threading.enumerate()) - before:
            thread.join(timeout=1)  # it raises here before it ends there
        raise
    finally:
        threading.excepthook = shown


def _run(
    trainer: Trainer, folder: Path, plan: Plan, console: Console, judge: Judge | None, stopping: Callable[[], bool]
) -> list[Quality]:
    recipe, found = trainer.recipe, []
    with _log(folder, trainer.images_seen) as log, _progress_bar(console) as progress:
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


def _show(console: Console, quality: Quality, images: int) -> None:
    values = ", ".join(f"{name} {value:.3f}" for name, value in quality.values.items())
    told = "; ".join((f"{quality.num_fake} images", *quality.notes))
    console.print(f"after {images} images: {values} ({told})", markup=False, highlight=False, soft_wrap=True)


def _judged(trainer: Trainer, judge: Judge, progress: Progress, stopping: Callable[[], bool]) -> Quality:
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


class _Log:
    """What is written of a run while it goes on."""

    def __init__(self, folder: Path, images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self.folder = folder
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=images + 1 if images else None)
        (folder / "samples").mkdir(exist_ok=True)
        self._forget_quality_after(images)

    def _forget_quality_after(self, images: int) -> None:
        """Drop the evaluations that come after the checkpoint from which the run goes on: they come again."""
        file = self.folder / "quality.jsonl"
        if not file.exists():
            return
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _images_of(line) <= images]
        if kept != lines:
            unfinished = file.with_name(f"{file.name}.part")
            unfinished.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            unfinished.replace(file)

    def losses(self, losses: list[list[float]], images_per_second: float, images: int) -> None:
        for name, values in zip(("discriminator_loss", "generator_loss"), zip(*losses, strict=True), strict=True):
            self.writer.add_scalar(name, math.fsum(values) / len(values), images)
        self.writer.add_scalar("images_per_second", images_per_second, images)

    def samples(self, samples: Tensor, images: int) -> None:
        grid = image_grid(samples)
        save_image(grid, self.folder / "samples" / f"{images:010d}.png")
        self.writer.add_image("samples", grid, images)

    def quality(self, quality: Quality, images: int) -> None:
        for name, value in quality.values.items():
            self.writer.add_scalar(name, value, images)
        with (self.folder / "quality.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"images": images, **asdict(quality)}) + "\n")


def _images_of(line: str) -> float:
    """Return after how many images an evaluation was; a line that is none is not kept."""
    try:
        return float(json.loads(line)["images"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf


@contextmanager
def _log(folder: Path, images: int) -> Iterator[_Log | None]:
    if processes.rank() != 0:
        yield None
        return
    log = _Log(folder, images)
    with log.writer:
        yield log


def image_grid(images: Tensor) -> Tensor:
    """Return one picture (C, H, W) in [0, 1] of images (N, C, H, W) in [-1, 1], as square as can be."""
    columns = math.ceil(math.sqrt(len(images)))
    grid: Tensor = make_grid(images.float().cpu(), nrow=columns, normalize=True, value_range=(-1, 1))
    return grid


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
