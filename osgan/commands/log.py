"""The files of a training run: TensorBoard's, sample grids, evaluations."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from torchvision.utils import save_image

from osgan.commands.pictures import image_grid
from osgan.extras import needed
from osgan.parallel import processes

if TYPE_CHECKING:
    from osgan.metrics import Quality


class RunLog:
    """What is written of a run while it goes on: curves for TensorBoard, samples/ and quality.jsonl in its folder.

    `images` is how many real images the run has seen when it begins or goes on: what was written of later ones goes.
    """

    def __init__(self, folder: Path, images: int) -> None:
        with needed("cli"):
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
        """Add the means of D's and G's losses over some steps, and the speed."""
        for name, values in zip(("discriminator_loss", "generator_loss"), zip(*losses, strict=True), strict=True):
            self.writer.add_scalar(name, math.fsum(values) / len(values), images)
        self.writer.add_scalar("images_per_second", images_per_second, images)

    def samples(self, samples: Tensor, images: int) -> None:
        """Write a grid of images (N, C, H, W) in [-1, 1]."""
        grid = image_grid(samples)
        save_image(grid, self.folder / "samples" / f"{images:010d}.png")
        self.writer.add_image("samples", grid, images)

    def quality(self, quality: "Quality", images: int) -> None:
        """Add an evaluation."""
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
def run_log(folder: Path, images: int) -> Iterator[RunLog | None]:
    """Open the log of a run; None in all processes but the first."""
    if processes.rank() != 0:
        yield None
        return
    log = RunLog(folder, images)
    with log.writer:
        yield log


@contextmanager
def writer_without_tracebacks() -> Iterator[None]:
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
