"""The `osgan` command. A user's mistake prints one message and exits 2; nothing here computes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from osgan import cost, data, nets, regularizers
from osgan.errors import InputError
from osgan.losses import as_loss
from osgan.verify import verify as verify_networks

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="GAN training in one stage."
)

Architecture = Annotated[
    str, typer.Option(help="NAME[+option=value...] or package.module:builder, e.g. dcgan64+width=128+norm=group")
]
Loss = Annotated[str, typer.Option(help="NAME[+regularizer=weight...], e.g. hinge or rpgan+r1=0.05+r2=0.05")]
DatasetName = Annotated[str, typer.Option("--dataset", help="digits, mnist, cifar10, zip:PATH, folder:PATH, ...")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="where data sets lie; default: OSGAN_DATA")]
BatchSize = Annotated[int, typer.Option(min=2, help="images a step")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]


def pick_device(name: str) -> torch.device:
    """Return the device of that name, `auto` being a GPU if there is one; raises InputError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not supported: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= (device.index or 0):
            raise InputError(f"device {name!r} is not there: PyTorch sees {count} CUDA devices; try --device cpu")
    return device


def run(application: Callable[[], Any]) -> None:
    """Run a command line; an InputError becomes a message on stderr and exit status 2."""
    try:
        application()
    except InputError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False, style="red")
        sys.exit(2)


def _networks_and_batch(
    architecture: str, dataset: str, root: Path | None, batch_size: int, device: torch.device
) -> tuple[nets.Networks, torch.Tensor]:
    torch.manual_seed(0)
    source = data.load(dataset, resolution=nets.resolution_of(architecture), device=device, root=root)
    networks = nets.build(architecture, channels=source.image_shape[0], num_classes=source.num_classes)
    networks.generator.to(device)
    networks.discriminator.to(device)
    real, _ = next(source.batches(batch_size, seed=0))
    return networks, real


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
    networks, real = _networks_and_batch(architecture, dataset, data_root, batch_size, pick_device(device))
    name, _ = regularizers.parse_loss(loss)
    found = verify_networks(networks.generator, networks.discriminator, name, real, networks.latent)
    row = {
        "architecture": architecture,
        "loss": loss,
        "exact": found.exact,
        "generator_error": found.generator_error,
        "discriminator_error": found.discriminator_error,
        "logits_per_image": found.structure.logits_per_image,
        "cross_sample_derivative": found.structure.cross_sample,
        "reason": found.reason,
    }
    if as_json:
        print(json.dumps(row))
    else:
        table = Table(show_header=False, box=None)
        for key, value in row.items():
            table.add_row(key.replace("_", " "), f"{value:.2e}" if isinstance(value, float) else str(value))
        Console().print(table)
    raise typer.Exit(0 if found.exact else 1)


@app.command()
def predict(
    architecture: Architecture = "dcgan64+width=128",
    loss: Loss = "nonsaturating",
    dataset: DatasetName = "synthetic",
    data_root: DataRoot = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Count the FLOPs of a step of every scheme: the most that one stage can gain on a compute-bound machine."""
    networks, real = _networks_and_batch(architecture, dataset, data_root, batch_size, pick_device(device))
    name, penalties = regularizers.parse_loss(loss)
    predicted = cost.predict_speedup(
        networks.generator,
        networks.discriminator,
        as_loss(name),
        real,
        networks.latent,
        regularizers=penalties,
    )
    if as_json:
        print(json.dumps({"flops": predicted.flops, "ceilings": predicted.ceilings, "reasons": predicted.reasons}))
        return
    table = Table("scheme", "GFLOP a step", "over one_stage", title=f"{architecture}, {loss}, batch {batch_size}")
    for scheme, flops in predicted.flops.items():
        ceiling = predicted.ceilings[scheme]
        table.add_row(
            scheme,
            "-" if flops is None else f"{flops / 1e9:.3f}",
            "-" if ceiling is None else f"{ceiling:.3f}",
        )
    Console().print(table)
    for scheme, reason in predicted.reasons.items():
        Console().print(f"{scheme}: {reason}", markup=False, highlight=False)


def main() -> None:
    """Entry point of the `osgan` command."""
    run(app)
