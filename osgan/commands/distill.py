"""The command `osgan distill`: settings from its options, progress on stderr, the outcome as one JSON object."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from osgan.distill.run import Distillation, distill
from osgan.distill.settings import defaults_for
from osgan.distill.split import load_split
from osgan.distill.teacher import load_teacher, save_weights


def run(
    dataset: str,
    root: Path | None,
    device: torch.device,
    *,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    train_teacher: bool,
    teacher_weights: Path | None,
    cache: Path | None,
    every: int,
    output: Path | None,
) -> dict[str, Any]:
    """Distil with the data set's settings, those of `teacher` and `student` that are not None put in their place."""
    split = load_split(dataset, device=device, root=root)
    of_teacher, settings = defaults_for(dataset, split.channels)
    of_teacher = replace(of_teacher, **{key: value for key, value in teacher.items() if value is not None})
    settings = replace(settings, **{key: value for key, value in student.items() if value is not None})
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("teacher", total=of_teacher.epochs, visible=False)
        network = load_teacher(
            split,
            of_teacher,
            train=train_teacher,
            weights=teacher_weights,
            cache=cache,
            on_epoch=lambda done, _: progress.update(bar, completed=done, visible=True),
        )
        teacher_accuracy = split.accuracy(network)
        distillation = Distillation(network, settings, num_classes=split.num_classes, channels=split.channels)
        progress.update(bar, visible=False)
        bar = progress.add_task(settings.scheme, total=settings.steps)
        points = distill(
            distillation,
            split.accuracy,
            every=every,
            on_point=lambda point: progress.update(
                bar, completed=point.step, description=f"{settings.scheme}, accuracy {point.accuracy:.3f}"
            ),
        )
    if output is not None:
        save_weights(distillation.student, output)
    return {
        "dataset": dataset,
        "held_out": split.held_out,
        "teacher": asdict(of_teacher),
        "settings": asdict(settings),
        "teacher_accuracy": teacher_accuracy,
        "student_accuracy": points[-1].accuracy,
        "step_ms": points[-1].training_seconds / settings.steps * 1000,
        "points": [point._asdict() for point in points],
    }


def show(found: Mapping[str, Any]) -> None:
    """Print the outcome for a reader: accuracy against steps and training seconds."""
    settings = found["settings"]
    rows = Table("step", "seconds", "accuracy", "student loss")
    for point in found["points"]:
        loss = point["student_loss"]
        rows.add_row(
            *(str(point["step"]), f"{point['training_seconds']:.1f}", f"{point['accuracy']:.4f}"),
            "-" if loss is None else f"{loss:.4f}",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{settings['scheme']}: {found['teacher']['network']} to {settings['student']} on {found['dataset']}, "
        f"{found['step_ms']:.1f} ms a step",
        markup=False,
    )
    console.print(rows)
    console.print(
        f"accuracy of the teacher {found['teacher_accuracy']:.4f}, of the student {found['student_accuracy']:.4f}, on "
        f"{found['held_out']}",
        markup=False,
    )
