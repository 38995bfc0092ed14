"""The command `osgan verify`."""

import json

import typer
from rich.console import Console

from osgan.commands.options import (
    Architecture,
    AsJson,
    BatchSize,
    DataRoot,
    DatasetName,
    Device,
    Loss,
    pick_device,
)


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
    import torch

    from osgan import regularizers
    from osgan.commands.batch import networks_and_batch
    from osgan.verification import verify as verify_networks

    networks, _, real, labels = networks_and_batch(architecture, dataset, data_root, batch_size, pick_device(device))
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
