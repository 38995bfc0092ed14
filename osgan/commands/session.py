"""A training run from its recipe to its end, in one process or in each of several: signals, and what is said of it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from osgan.commands import progress
from osgan.parallel import processes
from osgan.training import checkpoint
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer

if TYPE_CHECKING:
    from osgan.metrics import Judge


def run(
    recipe: Recipe, out: Path, plan: progress.Plan, device: torch.device, root: Path | None, **judge_options: Any
) -> int:
    """Train to the end of the recipe, or go on with what lies in `out`; returns the exit status.

    Ctrl-C and SIGTERM end it after the step at hand with a checkpoint; a second one ends it at once. Under torchrun
    this is one process of several: the first speaks for all, and a signal ends them at once. `judge_options` are those
    of `Judge`.
    """
    console = Console(quiet=processes.rank() != 0)
    try:
        with processes.process_group(device) as where, _signals() as received:
            console = Console(quiet=processes.rank() != 0)
            trainer = Trainer(recipe, device=where, root=root)
            try:
                _train(trainer, out, plan, judge_options, console, lambda: bool(received))
            except progress.Stopped:
                saved = checkpoint.path_of(out, trainer.num_steps)
                _say(console, f"stopped at {trainer.images_seen} images; the same command goes on from {saved}")
                return 128 + received[0]
    except KeyboardInterrupt:
        _say(console, f"stopped at once; {_goes_on(out)}")
        return 130
    return 0


def _goes_on(out: Path) -> str:
    """Say where the same command goes on, which is what lies there and not what was meant to."""
    saved = checkpoint.all_of(out)
    if not saved:
        return f"no checkpoint was written to {out} yet: the same command begins anew"
    return f"the same command goes on from {saved[-1]}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM instead of dying of them, the first time; in the main thread of a single process."""
    received: list[int] = []
    if processes.size() > 1 or threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        with suppress(OSError):
            os.write(2, b"stopping after the step at hand, with a checkpoint; once more stops at once\n")

    kinds = (signal.SIGINT, signal.SIGTERM)
    before: list[Any] = [signal.signal(kind, note) for kind in kinds]
    try:
        yield received
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _train(
    trainer: Trainer,
    out: Path,
    plan: progress.Plan,
    judge_options: dict[str, Any],
    console: Console,
    stopping: Callable[[], bool],
) -> None:
    judge = _judge(trainer, **judge_options) if plan.evaluate_every is not None else None
    if step := progress.open_run(out, trainer):
        console.print(f"going on from step {step} ({trainer.images_seen} images)", highlight=False)
    if trainer.data_differ:
        _say(console, f"the data are others than at the checkpoint: {trainer.data_differ}")
    before, now = trainer.resumed_from_processes, processes.size()
    if before not in (None, now):
        console.print(f"written by {before} processes, now {now}: new random streams from here on", highlight=False)
    if trainer.num_steps >= trainer.recipe.num_steps:
        _say(console, f"nothing is left to do: {trainer.images_seen} images of {trainer.recipe.images} are done")
    progress.run(trainer, out, plan, console, judge, stopping=stopping)
    _say(console, f"{out}: {trainer.images_seen} images in {trainer.num_steps} steps")
    saved = checkpoint.path_of(out, trainer.num_steps)
    _say(console, f"images: osgan sample {saved} --out {out}-samples; curves: tensorboard --logdir {out}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _judge(trainer: Trainer, num_images: int, **options: Any) -> "Judge":
    from osgan.metrics import Judge  # an extra that only a run with evaluations needs

    return Judge(
        trainer.dataset,
        metrics=("fd", "kd"),
        device=trainer.device,
        num_images=num_images,
        num_real=max(num_images, 10_000),
        over_processes=True,
        **options,
    )
