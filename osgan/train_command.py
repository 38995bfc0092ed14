"""What `osgan train` does once its arguments are read, in one process or in each of several."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from osgan import distributed, monitor
from osgan.metrics import Judge
from osgan.recipe import Recipe
from osgan.train import Trainer


def run(
    recipe: Recipe, out: Path, plan: monitor.Plan, device: torch.device, root: Path | None, **judge_options: Any
) -> int:
    """Train to the end of the recipe, or go on with what lies in `out`; returns the exit status.

    Under torchrun this is one process of several; the first speaks for all. `judge_options` are those of `Judge`.
    """
    try:
        with distributed.process_group(device) as where:
            _train(Trainer(recipe, device=where, root=root), out, plan, judge_options)
    except KeyboardInterrupt:
        _console().print(f"stopped; the same command goes on from the newest checkpoint in {out}", markup=False)
        return 130
    return 0


def _console() -> Console:
    return Console(quiet=distributed.rank() != 0)


def _train(trainer: Trainer, out: Path, plan: monitor.Plan, judge_options: dict[str, Any]) -> None:
    console = _console()
    judge = _judge(trainer, **judge_options) if plan.evaluate_every is not None else None
    if step := monitor.open_run(out, trainer):
        console.print(f"going on from step {step} ({trainer.images_seen} images)", highlight=False)
    before, now = trainer.resumed_from_processes, distributed.size()
    if before not in (None, now):
        console.print(f"written by {before} processes, now {now}: new random streams from here on", highlight=False)
    for quality in monitor.run(trainer, out, plan, console, judge):
        values = ", ".join(f"{name} {value:.3f}" for name, value in quality.values.items())
        console.print(values, highlight=False)
    done = f"{out}: {trainer.images_seen} images in {trainer.num_steps} steps"
    console.print(done, markup=False, highlight=False)


def _judge(trainer: Trainer, num_images: int, **options: Any) -> Judge:
    return Judge(
        trainer.dataset,
        metrics=("fd", "kd"),
        device=trainer.device,
        num_images=num_images,
        num_real=max(num_images, 10_000),
        over_processes=True,
        **options,
    )
