"""What `osgan sample` does once its arguments are read."""

import re
import shutil
from pathlib import Path

import torch
from torchvision.utils import save_image

from osgan.commands import progress
from osgan.errors import InputError
from osgan.parallel import processes
from osgan.training.sampling import labels_for, load_generator, sample

BATCH_SIZE = 100
GRID_IMAGES = 64
OURS = re.compile(r"\d{5,}(-class\d+)?\.png")
"""What a folder may hold that is written anew: images that this command wrote."""


def run(
    checkpoint_folder: Path,
    out: Path,
    n: int,
    *,
    seed: int,
    average: bool,
    device: torch.device,
    label: int | None = None,
) -> Path:
    """Write n images of a checkpoint's G into `out`, a file each and nothing else; returns the grid's path beside it.

    Images that an earlier call wrote there are replaced, once all new ones are written. Raises InputError where that
    cannot be, and for a folder that holds other files.
    """
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
            images = sample(
                loaded.networks, size, seed=_seed_of(seed, start), device=device, label=label, first=start
            ).cpu()
            labels = labels_for(loaded.networks, size, label=label, first=start)
            for index, image in enumerate(images):
                of_class = "" if labels is None else f"-class{int(labels[index])}"
                save_image((image + 1) / 2, unfinished / f"{start + index:05d}{of_class}.png")
            if start == 0:
                save_image(progress.image_grid(images[:GRID_IMAGES]), unfinished_grid)
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
    return processes.derived_seed(seed, start) if start else seed
