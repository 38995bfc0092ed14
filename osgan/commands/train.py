"""The command `osgan train`: its options become a recipe and a plan."""

from pathlib import Path
from typing import Annotated

import typer

from osgan.commands.options import (
    Architecture,
    Augmentation,
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
    schedule: Annotated[
        str, typer.Option(help="constant, linear, cosine+to=0.1 or multistep+at=(0.5,0.75); any +warmup=0.02")
    ] = "constant",
    penalty_schedule: Annotated[
        str, typer.Option(help="of the penalties' weights, written as --schedule")
    ] = "constant",
    augmentation: Augmentation = "none",
    generator_clip: Annotated[float | None, typer.Option(help="largest norm of G's gradient")] = None,
    discriminator_clip: Annotated[float | None, typer.Option(help="largest norm of D's gradient")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="parts of a batch, one after the other")] = 1,
    gradient_normalization: Annotated[
        float | None, typer.Option(help="decay of the average that G's gradient is divided by at the images, e.g. 0.9")
    ] = None,
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
    from osgan.commands import progress, session
    from osgan.training.recipe import Recipe

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
        penalty_schedule=penalty_schedule,
        augmentation=augmentation,
        generator_clip=generator_clip,
        discriminator_clip=discriminator_clip,
        accumulate=accumulate,
        gradient_normalization=gradient_normalization,
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
    raise typer.Exit(session.run(recipe, out, plan, where, data_root, **judge))
