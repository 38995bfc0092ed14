"""The `osgan` command. A user's mistake prints one message and exits 2; nothing here computes."""

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from rich.console import Console
from torch.distributed.elastic.multiprocessing.errors import record

from osgan import cost, data, nets, regularizers
from osgan.commands.data import app as data_app
from osgan.commands.entry import run
from osgan.commands.options import (
    Architecture,
    AsJson,
    BatchSize,
    DataRoot,
    DatasetName,
    Device,
    Extractor,
    InceptionWeights,
    Loss,
    NumCritic,
    Seed,
    pick_device,
)
from osgan.errors import InputError, unknown
from osgan.losses import as_loss
from osgan.parallel import processes
from osgan.training.engine import Precision
from osgan.training.recipe import Recipe
from osgan.verification import verify as verify_networks

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # "[" in a help is a bracket
    help="GAN training in one stage.",
)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        print(f"osgan {version('osgan')}")
        raise typer.Exit


@app.callback()
def commands(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """GAN training in one stage."""


def _networks_and_batch(
    architecture: str, dataset: str, root: Path | None, batch_size: int, device: torch.device
) -> tuple[nets.Networks, data.Dataset, torch.Tensor, torch.Tensor | None]:
    torch.manual_seed(0)
    source = data.load(dataset, resolution=nets.resolution_of(architecture), device=device, root=root)
    networks = nets.build(architecture, channels=source.image_shape[0], num_classes=source.num_classes)
    networks.generator.to(device)
    networks.discriminator.to(device)
    real, labels = next(source.batches(batch_size, seed=0))
    return networks, source, real, labels if networks.num_classes is not None else None


@app.command()
def verify(
    architecture: Architecture = "dcgan32+width=32",
    loss: Loss = "nonsaturating",
    dataset: DatasetName = "digits",
    data_root: DataRoot = None,
    batch_size: BatchSize = 16,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure whether one-stage training is exact for these networks and this loss; exit status 1 if it is not."""
    networks, _, real, labels = _networks_and_batch(architecture, dataset, data_root, batch_size, pick_device(device))
    name, _ = regularizers.parse_loss(loss)
    players = networks.generator, networks.discriminator
    adams = torch.optim.Adam(players[0].parameters()), torch.optim.Adam(players[1].parameters())
    found = verify_networks(*players, name, real, networks.latent, labels, optimizers=adams)
    if as_json:
        print(json.dumps({"architecture": architecture, "loss": loss, **found.rows()}))
    else:
        verdict, *figures = str(found).splitlines()
        console = Console(soft_wrap=True)
        console.print(verdict, style="bold green" if found.exact else "bold red")
        for line in [f"{architecture}, {loss}", *figures]:
            console.print(line, markup=False, highlight=False)
    raise typer.Exit(0 if found.exact else 1)


@app.command()
def predict(
    architecture: Architecture = "dcgan64+width=128",
    loss: Loss = "nonsaturating",
    dataset: DatasetName = "synthetic",
    data_root: DataRoot = None,
    batch_size: BatchSize = 8,
    n_critic: NumCritic = 1,
    gpus: Annotated[
        list[int] | None, typer.Option(min=1, help="expect a step on so many; may be given again; default: 8, 64, 1024")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(min=0, metavar="GB/s", help="bus bandwidth of an all-reduce between them")
    ] = None,
    latency: Annotated[float, typer.Option(min=0, metavar="US", help="of a message between them")] = 5.0,
    precision: Annotated[str, typer.Option(help="of the measured steps: fp32, tf32 or bf16")] = "fp32",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Count the FLOPs of a step of every scheme: the most that one stage can gain on a compute-bound machine.

    With --gpus and --bandwidth, time the steps here and say what to expect of them on many GPUs, as a model.
    """
    from osgan.commands import predict

    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    for name, value in (("--bandwidth", bandwidth), ("--latency", latency)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value!r}")
    if bandwidth is not None and not bandwidth > 0:
        raise InputError(f"--bandwidth must be above 0 GB/s, got {bandwidth!r}")
    if gpus and bandwidth is None:
        raise InputError("--gpus needs --bandwidth: the GB/s that nccl-tests' all_reduce_perf prints as busbw")
    interconnects = (
        [] if bandwidth is None else [predict.Interconnect(n, bandwidth, latency) for n in gpus or predict.GPUS]
    )
    where = pick_device(device)
    networks, source, real, labels = _networks_and_batch(architecture, dataset, data_root, batch_size, where)
    name, penalties = regularizers.parse_loss(loss)
    predicted = cost.predict_speedup(
        networks.generator,
        networks.discriminator,
        as_loss(name),
        real,
        networks.latent,
        labels,
        regularizers=penalties,
        n_critic=n_critic,
    )
    found: dict[str, Any] = {"flops": predicted.flops, "ceilings": predicted.ceilings, "reasons": predicted.reasons}
    if interconnects:
        recipe = Recipe(
            dataset=dataset,
            architecture=architecture,
            loss=loss,
            batch_size=batch_size,
            n_critic=n_critic,
            precision=precision,
        )
        found["scaling"] = predict.scaling_rows(predict.timelines(networks, source, recipe), interconnects)
    if as_json:
        print(json.dumps(found))
        return
    console = Console()
    predict.show_ceilings(console, predicted, f"{architecture}, {loss}, batch {batch_size}")
    if interconnects:
        predict.show_scaling(console, found["scaling"], interconnects[0], predict.device_name(where))


@app.command()
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
    from osgan.commands import distill as distillation  # the other commands need none of it

    found = distillation.run(
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
        output=output,
    )
    if as_json:
        print(json.dumps(found))
    else:
        distillation.show(found)
        if output is None:
            Console().print("the student was not kept: --output FILE writes it", highlight=False)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="the run's folder; a run that lies there goes on")],
    dataset: DatasetName = "digits",
    data_root: DataRoot = None,
    architecture: Architecture = "dcgan32+width=32",
    loss: Loss = "nonsaturating",
    scheme: Annotated[str, typer.Option(help="one_stage, simultaneous, two_stage, ...")] = "one_stage",
    batch_size: BatchSize = 64,
    n_critic: NumCritic = 1,
    images: Annotated[int, typer.Option(min=1, help="real images seen in the whole run")] = 200_000,
    optimizer: Annotated[str, typer.Option(help="adam or optimistic_adam")] = "adam",
    generator_lr: Annotated[float, typer.Option(help="G's learning rate")] = 2e-4,
    discriminator_lr: Annotated[float, typer.Option(help="D's learning rate")] = 2e-4,
    betas: Annotated[tuple[float, float], typer.Option(help="Adam's")] = (0.5, 0.999),
    schedule: Annotated[str, typer.Option(help="constant, linear, cosine or multistep+at=(0.5,0.75)")] = "constant",
    ema_half_life: Annotated[int, typer.Option(min=0, help="of G's moving average, in images; 0 for none")] = 10_000,
    engine: Annotated[str, typer.Option(help="auto, eager, compile, cuda_graph or compile_cuda_graph")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, tf32 or bf16")] = "fp32",
    sync_batch_norm: Annotated[
        bool, typer.Option("--sync-batch-norm", help="BatchNorm over the whole batch of several processes; GPUs only")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    checkpoint_every: Annotated[int | None, typer.Option(min=1, help="images; default: a tenth of them all")] = None,
    sample_every: Annotated[int | None, typer.Option(min=1, help="images; default: at the end")] = None,
    evaluate_every: Annotated[int | None, typer.Option(min=1, help="images; default: never")] = None,
    extractor: Extractor = "efficientnet-lite0",
    inception_weights: InceptionWeights = None,
    evaluation_images: Annotated[int, typer.Option(min=4, help="generated images an evaluation")] = 5_000,
    keep: Annotated[int, typer.Option(min=1, max=1_000_000, help="newest checkpoints kept")] = 3,
) -> None:
    """Train a GAN; TensorBoard, sample grids and checkpoints go to the run's folder.

    On several GPUs or machines: torchrun --nproc-per-node 4 -m osgan train ... The batch is shared by all processes.
    """
    from osgan.commands import progress  # the other commands need none of it
    from osgan.commands import train as train_command  # the other commands need none of it

    where = pick_device(device)
    recipe = Recipe(
        dataset=dataset,
        architecture=architecture,
        loss=loss,
        scheme=scheme,
        batch_size=batch_size,
        n_critic=n_critic,
        images=images,
        optimizer=optimizer,
        generator_lr=generator_lr,
        discriminator_lr=discriminator_lr,
        betas=betas,
        schedule=schedule,
        ema_half_life=ema_half_life,
        engine=("cuda_graph" if where.type == "cuda" else "eager") if engine == "auto" else engine,
        precision=precision,
        sync_batch_norm=sync_batch_norm,
        seed=seed,
    )
    plan = progress.Plan(
        checkpoint_every=checkpoint_every or -(-images // 10),
        sample_every=sample_every,
        evaluate_every=evaluate_every,
        keep=keep,
    )
    judge = {"extractor": extractor, "inception_weights": inception_weights, "num_images": evaluation_images}
    raise typer.Exit(train_command.run(recipe, out, plan, where, data_root, **judge))


@app.command()
def sample(
    checkpoint_folder: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="a checkpoint's folder, or a run's")],
    out: Annotated[Path, typer.Option(help="folder that is to hold the images and nothing else")],
    n: Annotated[int, typer.Option("--n", min=1, help="images")] = 64,
    label: Annotated[int | None, typer.Option("--class", min=0, help="of all images; default: every class")] = None,
    seed: Seed = 0,
    average: Annotated[bool, typer.Option(help="take the moving average of G's weights")] = True,
    device: Device = "auto",
) -> None:
    """Generate images from a checkpoint, one file each, and a grid of the first beside them."""
    from osgan.commands import sample as sample_command  # the other commands need none of it

    grid = sample_command.run(
        checkpoint_folder, out, n, seed=seed, average=average, device=pick_device(device), label=label
    )
    message = f"{n} images in {out}, a grid of the first in {grid}"
    Console().print(message, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of the `osgan` command; under torchrun the cause of a failure goes into its summary."""
    run(record(lambda: app()) if processes.launched() else app)
