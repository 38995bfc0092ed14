"""What `osgan sample` does once its arguments are read."""

from pathlib import Path

import torch
from torchvision.utils import save_image

from osgan import monitor
from osgan.errors import InputError
from osgan.train import load_generator, sample

BATCH_SIZE = 100


def run(checkpoint_folder: Path, out: Path, n: int, *, seed: int, average: bool, device: torch.device) -> None:
    """Write n images of a checkpoint's G, a file each, and grid.png; raises InputError where that cannot be."""
    loaded = load_generator(checkpoint_folder, device, average=average)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}; choose another --out") from None
    starts = range(0, n, BATCH_SIZE)
    batches = (sample(loaded.networks, min(BATCH_SIZE, n - s), seed=seed + s, device=device).cpu() for s in starts)
    images = torch.cat(list(batches))
    for index, image in enumerate(images):
        save_image((image + 1) / 2, out / f"{index:05d}.png")
    save_image(monitor.image_grid(images), out / "grid.png")
