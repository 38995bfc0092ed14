"""The command `osgan distill`: settings from its options, progress on stderr, the outcome as one JSON object."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from osgan.commands.options import (
    AsJson,
    DataRoot,
    DatasetName,
    Device,
    Seed,
    pick_device,
)
from osgan.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn


def distill(
    dataset: DatasetName = "digits",
    data_root: DataRoot = None,
    teacher: Annotated[str | None, typer.Option(help="lenet5, resnet34, ... or package.module:builder")] = None,
    student: Annotated[str | None, typer.Option(help="lenet5_half, resnet18, ... or package.module:builder")] = None,
    generator: Annotated[str | None, typer.Option(help="dfad[+width=...] or package.module:builder")] = None,
    scheme: Annotated[str | None, typer.Option(help="one_stage, simultaneous, two_stage, two_stage_frozen")] = None,
    loss: Annotated[str | None, typer.Option(help="l1, kl+temperature=4, l1+one_hot=1+information_entropy=5")] = None,
    student_steps: Annotated[int | None, typer.Option(min=1, help="updates of the student a step")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps of the run, one update of the generator each")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="images an update")] = None,
    student_lr: Annotated[float | None, typer.Option(help="SGD's learning rate")] = None,
    generator_lr: Annotated[float | None, typer.Option(help="Adam's learning rate")] = None,
    train_teacher: Annotated[bool, typer.Option(help="train the teacher if the cache does not have it")] = False,
    teacher_epochs: Annotated[int | None, typer.Option(min=1, help="length of the teacher's training")] = None,
    teacher_lr: Annotated[float | None, typer.Option(help="SGD's learning rate for the teacher")] = None,
    teacher_weights: Annotated[Path | None, typer.Option(help="safetensors file of a trained teacher")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="where teachers are kept; default: ~/.cache/osgan/teachers")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="measure the accuracy every so many steps")] = 100,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", help="safetensors file to write the student to")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Distil a student from a teacher without data, in one stage; what is not given is as published for the data."""
    student_file = output and output.expanduser()
    found, network = outcome_of(
        dataset,
        data_root,
        pick_device(device),
        teacher={"network": teacher, "epochs": teacher_epochs, "lr": teacher_lr},
        student={
            "student": student,
            "generator": generator,
            "scheme": scheme,
            "loss": loss,
            "student_steps": student_steps,
            "steps": steps,
            "batch_size": batch_size,
            "student_lr": student_lr,
            "generator_lr": generator_lr,
            "seed": seed,
        },
        train_teacher=train_teacher,
        teacher_weights=teacher_weights,
        cache=cache,
        every=every,
        output=student_file,
    )
    if as_json:
        print(json.dumps(found))
    else:
        show(found)
        if student_file is None:
            Console().print("the student was not kept: --output FILE writes it", highlight=False)
    if student_file is not None:
        keep(network, student_file)


def keep(student: "nn.Module", file: Path) -> None:
    """Write the student; InputError if it cannot be written there: then it is elsewhere, as the error says."""
    from osgan.distill import save_weights

    try:
        save_weights(student, file)
    except InputError as error:
        rescued = Path(tempfile.mkdtemp(prefix="osgan-distill-")) / file.name
        save_weights(student, rescued)
        raise InputError(f"{error}; the student is in {rescued} instead") from None


def outcome_of(
    dataset: str,
    root: Path | None,
    device: "torch.device",
    *,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    train_teacher: bool,
    teacher_weights: Path | None,
    cache: Path | None,
    every: int,
    output: Path | None,
) -> "tuple[dict[str, Any], nn.Module]":
    """Distil with the data set's settings, those of `teacher` and `student` that are not None put in their place.

    Returns what there is to say and the student. That its weights can be written to `output` is tried at the start.
    """
    from osgan.distill import Distillation, defaults_for, load_split, load_teacher
    from osgan.distill import distill as run_distillation
    from osgan.distill.teacher import try_to_save

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
        if output is not None:
            try_to_save(distillation.student, output)
        progress.update(bar, visible=False)
        bar = progress.add_task(settings.scheme, total=settings.steps)
        points = run_distillation(
            distillation,
            split.accuracy,
            every=every,
            on_point=lambda point: progress.update(
                bar, completed=point.step, description=f"{settings.scheme}, accuracy {point.accuracy:.3f}"
            ),
        )
    found = {
        "dataset": dataset,
        "held_out": split.held_out,
        "teacher": asdict(of_teacher),
        "settings": asdict(settings),
        "teacher_accuracy": teacher_accuracy,
        "student_accuracy": points[-1].accuracy,
        "step_ms": points[-1].training_seconds / settings.steps * 1000,
        "points": [point._asdict() for point in points],
    }
    return found, distillation.student


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
