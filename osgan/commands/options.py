"""What the commands of `osgan` and `bench` have in common: options as typer takes them, and the device of a name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osgan.errors import InputError

if TYPE_CHECKING:
    import torch

Architecture = Annotated[
    str, typer.Option(help="NAME[+option=value...] or package.module:builder, e.g. dcgan64+width=128+norm=group")
]
Loss = Annotated[str, typer.Option(help="NAME[+regularizer=weight[/interval]...], e.g. hinge or rpgan+r1=0.05+r2=0.05")]
Augmentation = Annotated[
    str, typer.Option(help="what D sees images through: none, diffaugment or ada, e.g. ada+target=0.6")
]
DatasetName = Annotated[str, typer.Option("--dataset", help="digits, mnist, cifar10, zip:PATH, folder:PATH, ...")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="where data sets lie; default: OSGAN_DATA")]
BatchSize = Annotated[int, typer.Option(min=2, help="images a step")]
NumCritic = Annotated[int, typer.Option(min=1, help="updates of D for one of G, a batch each")]
Seed = Annotated[int, typer.Option(min=-(2**63), max=2**63 - 1, help="of all that is drawn at random")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Extractor = Annotated[
    str,
    typer.Option(help="efficientnet-lite0, inception-v3-compat, or package.module:object: what images are judged by"),
]
InceptionWeights = Annotated[Path | None, typer.Option(help="file of the weights of inception-v3-compat")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]


def pick_device(name: str) -> "torch.device":
    """Return the device of that name, `auto` being a GPU if there is one; raises InputError if it is not there."""
    import torch  # takes seconds, and --help needs none of it

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
