"""A training run as its user sees it: progress, TensorBoard, sample grids, checkpoints, quality.

Everything here happens between steps, every `LOG_EVERY` of them.
"""

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torchvision.utils import make_grid, save_image

from osgan import checkpoint
from osgan.checkpoint import Checkpoint
from osgan.errors import InputError
from osgan.metrics import Judge, Quality
from osgan.train import Trainer

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

    A checkpoint that is damaged is passed over with a warning.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None
    saved: Checkpoint | None = checkpoint.load_newest(folder)
    if saved is not None:
        trainer.resume(saved)
    return trainer.num_steps


def run(trainer: Trainer, folder: Path, plan: Plan, console: Console, judge: Judge | None = None) -> list[Quality]:
    """Train to the end of the recipe; writes checkpoints, samples/, tensorboard/ and quality.jsonl to `folder`."""
    from torch.utils.tensorboard import SummaryWriter  # seconds to import

    recipe, found = trainer.recipe, []
    (folder / "samples").mkdir(exist_ok=True)
    with SummaryWriter(str(folder / "tensorboard")) as writer, _progress_bar(console) as progress:
        task = progress.add_task(
            recipe.scheme, total=recipe.num_steps * recipe.images_per_step, completed=trainer.images_seen, speed=""
        )
        while (step := trainer.num_steps) < recipe.num_steps:
            start = time.perf_counter()
            trainer.train(min(LOG_EVERY, recipe.num_steps - step))
            losses = trainer.losses()
            speed = len(losses) * recipe.images_per_step / (time.perf_counter() - start)
            for name, values in zip(("discriminator_loss", "generator_loss"), zip(*losses, strict=True), strict=True):
                writer.add_scalar(name, math.fsum(values) / len(values), trainer.images_seen)
            writer.add_scalar("images_per_second", speed, trainer.images_seen)
            progress.update(task, completed=trainer.images_seen, speed=f"{speed:,.0f} images/s")
            last = trainer.num_steps == recipe.num_steps
            if last or _passed(plan.sample_every, step, trainer):
                grid = image_grid(trainer.sample(plan.grid_images))
                save_image(grid, folder / "samples" / f"{trainer.images_seen:010d}.png")
                writer.add_image("samples", grid, trainer.images_seen)
            if judge and (last or _passed(plan.evaluate_every, step, trainer)):
                quality = judge(trainer.generate)
                found.append(quality)
                for name, value in quality.values.items():
                    writer.add_scalar(name, value, trainer.images_seen)
                with (folder / "quality.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"images": trainer.images_seen, **asdict(quality)}) + "\n")
            if last or _passed(plan.checkpoint_every, step, trainer):
                trainer.save(folder, keep=plan.keep)
    return found


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
