"""Sample grids in a run's folder."""

from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.results.store import slug
from osgan.commands.pictures import image_grid


def save_grid(run: Path, name: str, what: str, images: Tensor) -> str:
    """Save images (N, C, H, W) in [-1, 1] as one picture of a case or a training; returns its path within the run."""
    relative = Path("samples") / slug(name) / f"{what}.png"
    (run / relative).parent.mkdir(parents=True, exist_ok=True)
    picture = F.to_pil_image(image_grid(images).mul(255).round().byte())
    if images.shape[1] == 1:
        picture = picture.convert("L")  # a grid repeats grey to RGB, which is half as much again on the disk
    picture.save(run / relative, optimize=True)
    return relative.as_posix()
