"""The command `osgan verify`."""

import json

import typer
from rich.console import Console

from osgan.commands.options import (
    Architecture,
    AsJson,
    Augmentation,
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
    augmentation: Augmentation = "none",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure whether one-stage training is exact for these networks and this loss; exit status 1 if it is not."""
    import torch

    from osgan import regularizers
    from osgan.augmentation import parse_augmentation
    from osgan.commands.batch import networks_and_batch
    from osgan.verification import verify as verify_networks

    networks, _, real, labels = networks_and_batch(architecture, dataset, data_root, batch_size, pick_device(device))
    name, penalties = regularizers.parse_loss(loss)
    see = parse_augmentation(augmentation)
    G, D = networks.generator, networks.discriminator
    found = verify_networks(
        *(G, D, name, real, networks.latent, labels),
        optimizers=(torch.optim.Adam(G.parameters()), torch.optim.Adam(D.parameters())),
        regularizers=penalties,
        augmentation=see,
    )
    if as_json:
        print(json.dumps({"architecture": architecture, "loss": loss, **found.rows()}))
    else:
        verdict, *figures = str(found).splitlines()
        console = Console(soft_wrap=True)
        console.print(verdict, style="bold green" if found.exact else "bold red")
        for line in [f"{architecture}, {loss}", *figures]:
            console.print(line, markup=False, highlight=False)
    raise typer.Exit(0 if found.exact else 1)
