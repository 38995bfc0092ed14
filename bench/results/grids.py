"""Sample grids in a run's folder."""

from io import BytesIO
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.results.store import slug
from bench.results.writing import write_within
from osgan.commands.pictures import image_grid


def save_grid(run: Path, name: str, what: str, images: Tensor) -> str:
    """Save images (N, C, H, W) in [-1, 1] as one picture of a case or a training; returns its path within the run.

    Raises UnwritableError where the run's folder cannot be written to.
    """
    relative = Path("samples") / slug(name, unique=True) / f"{what}.png"
    picture = F.to_pil_image(image_grid(images).mul(255).round().byte())
    if images.shape[1] == 1:
        picture = picture.convert("L")  # a grid repeats grey to RGB, which is half as much again on the disk
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    write_within(run, relative.as_posix(), content.getvalue())
    return relative.as_posix()
