"""A batch of images as one picture."""

import math

from torch import Tensor
from torchvision.utils import make_grid


def image_grid(images: Tensor) -> Tensor:
    """Return one picture (C, H, W) in [0, 1] of images (N, C, H, W) in [-1, 1], as square as can be."""
    columns = math.ceil(math.sqrt(len(images)))
    grid: Tensor = make_grid(images.float().cpu(), nrow=columns, normalize=True, value_range=(-1, 1))
    return grid
