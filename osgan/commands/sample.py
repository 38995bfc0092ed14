"""The command `osgan sample`: images of a checkpoint's generator as files."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from osgan.commands.options import Device, Seed, pick_device
from osgan.errors import InputError

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 100
GRID_IMAGES = 64
OURS = re.compile(r"\d{5,}(-class\d+)?\.png")
"""What a folder may hold that is written anew: images that this command wrote."""


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
    grid = write_samples(checkpoint_folder, out, n, seed=seed, average=average, device=pick_device(device), label=label)
    message = f"{n} images in {out}, a grid of the first in {grid}"
    Console().print(message, markup=False, highlight=False, soft_wrap=True)


def write_samples(
    checkpoint_folder: Path,
    out: Path,
    n: int,
    *,
    seed: int,
    average: bool,
    device: "torch.device",
    label: int | None = None,
) -> Path:
    """Write n images of a checkpoint's G into `out`, a file each and nothing else; returns the grid's path beside it.

    Images that an earlier call wrote there are replaced, once all new ones are written. Raises InputError where that
    cannot be, and for a folder that holds other files.
    """
    from torchvision.utils import save_image

    from osgan.commands.pictures import image_grid
    from osgan.training.sampling import labels_for, load_generator
    from osgan.training.sampling import sample as generate

    out = out.resolve()
    if not out.name or out == Path.cwd():
        raise InputError(f"--out {out}: choose a folder of its own, beside which the grid can lie")
    loaded = load_generator(checkpoint_folder, device, average=average)
    labels_for(loaded.networks, 1, label=label)
    grid, unfinished = out.with_name(f"{out.name}-grid.png"), out.with_name(f".{out.name}.part")
    unfinished_grid = out.with_name(f".{out.name}-grid.png")
    try:
        if foreign := [file.name for file in out.iterdir() if not OURS.fullmatch(file.name)] if out.exists() else []:
            raise InputError(f"{out} holds other files than samples, such as {foreign[0]!r}; choose another --out")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for start in range(0, n, BATCH_SIZE):
            size = min(BATCH_SIZE, n - start)
            images = generate(
                loaded.networks, size, seed=_seed_of(seed, start), device=device, label=label, first=start
            ).cpu()
            labels = labels_for(loaded.networks, size, label=label, first=start)
            for index, image in enumerate(images):
                of_class = "" if labels is None else f"-class{int(labels[index])}"
                save_image((image + 1) / 2, unfinished / f"{start + index:05d}{of_class}.png")
            if start == 0:
                save_image(image_grid(images[:GRID_IMAGES]), unfinished_grid)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
        unfinished_grid.replace(grid)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished_grid.unlink(missing_ok=True)
    return grid


def _seed_of(seed: int, start: int) -> int:
    """Return the seed of a batch; those of two seeds have no batch in common."""
    from osgan.parallel import processes

    return processes.derived_seed(seed, start) if start else seed
