"""Sample grids in a run's folder."""

from pathlib import Path

from torch import Tensor
from torchvision.utils import save_image

from bench.results import slug
from osgan.monitor import image_grid


def save_grid(run: Path, name: str, what: str, images: Tensor) -> str:
    """Save images (N, C, H, W) in [-1, 1] as one picture of a case or a training; returns its path within the run."""
    relative = Path("samples") / slug(name) / f"{what}.png"
    (run / relative).parent.mkdir(parents=True, exist_ok=True)
    save_image(image_grid(images), run / relative)
    return relative.as_posix()
