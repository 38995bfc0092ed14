"""ADA, adaptive discriminator augmentation (Karras et al. 2020, section 3 and appendix B): the pipeline `bgc`.

The probability of every part follows how far D overfits, read off the signs of its logits of real images. Left out of
the paper's pipeline are the wavelet filters around its resampling (positions are interpolated bilinearly here, once for
all parts), and image-space filtering and corruptions, which the paper found of little use.
"""

import math

import torch
from torch import Tensor

from osgan.augmentation import Augmentation, Drawn, check_number, uniform
from osgan.errors import InputError
from osgan.group import size, total
from osgan.losses import AdversarialLoss, at_least_float32

PARTS = {
    "flip": "b",
    "turn": "b",
    "shift": "b",
    "scale": "g",
    "rotation": "g",
    "stretch": "g",
    "second_rotation": "g",
    "offset": "g",
    "brightness": "c",
    "contrast": "c",
    "luma_flip": "c",
    "hue": "c",
    "saturation": "c",
}
"""The parts in the order of the paper's pseudocode, and the group of each: blitting, geometry or colour."""


class ADA(Augmentation):
    """ADA (Karras et al. 2020): each part of the pipeline is applied to an image with probability `p`, which adapts.

    Every `interval` updates of D, p goes up where the mean sign of D's logits of augmented real images was above
    `target` and down where it was below, by the images seen since then over `images`, and stays in [0, 1]; of several
    processes, that is all of theirs. `target=None` leaves p as it is. The sign must tell real from fake: it does under
    `nonsaturating`, `minimax` and `hinge`, and under paired losses (`rpgan`, `ragan`), of which a scheme hands over the
    real logit less the fake's; not under `lsgan`, whose middle is 1/2, and `wgan`, where only differences count: with
    those a scheme takes `target=None` alone. At p = 0 images are left exactly as they are.

    `pipeline` is made of the groups, any of them:

    - `b`: flip, quarter turns, translation by whole pixels up to 1/8 of the size.
    - `g`: scale and stretch (log2 of standard deviation 0.2), rotation, translation (standard deviation 1/8 of the
      size). With `b` they are one matrix per image; what comes in from outside is the image's reflection.
    - `c`: brightness (standard deviation 0.2), contrast (log2 of standard deviation 0.5), flip of luma, rotation of hue
      about the luma axis, saturation (log2 of standard deviation 1), one affine map of the channels. Luma is the mean
      of the channels; one channel has neither hue nor saturation, and a number other than 3 no hue.

    Attributes:
        p: The probability, a scalar float32 tensor.

    Raises:
        InputError: For numbers out of range and groups that do not exist.
    """

    def __init__(
        self,
        target: float | None = 0.6,
        images: int = 500_000,
        interval: int = 4,
        p: float = 0.0,
        pipeline: str = "bgc",
    ) -> None:
        if target is not None:
            check_number("ADA", "a target", target, -1, 1)
        check_number("ADA", "images", images, 1, 10**15)
        check_number("ADA", "p", p, 0, 1)
        check_number("ADA", "an interval", interval, 1, 10**6)
        if not isinstance(interval, int):
            raise InputError(f"ADA needs an interval in whole updates of D, got {interval!r}")
        if not isinstance(pipeline, str) or not pipeline or set(pipeline) - set("bgc"):
            raise InputError(f"ADA takes a pipeline of the letters b, g and c, such as 'bgc', got {pipeline!r}")
        self.target = target
        self.images = images
        self.interval = interval
        self.pipeline = pipeline
        self.p = torch.tensor(float(p), dtype=torch.float32)
        self.sums = torch.zeros(4, dtype=torch.float32)  # signs, logits, images and observations since p last moved

    def __repr__(self) -> str:
        numbers = f"target={self.target}, images={self.images}, interval={self.interval}"
        return f"ADA({numbers}, pipeline={self.pipeline!r})"

    def check_loss(self, loss: AdversarialLoss, *, paired: bool) -> None:
        """Raise InputError where the sign of a logit says nothing, unless p stays as it is."""
        if self.target is not None and not paired and not _parts_at_zero(loss, self.p.device):
            raise InputError(
                f"ADA takes a logit above 0 for real and one below for generated, which the loss {loss.name!r} does "
                "not: give it target=None, which leaves p as it is, or take a loss such as nonsaturating or rpgan"
            )

    def tensors(self) -> list[Tensor]:
        """Return the probability and what has been observed since it last moved."""
        return [self.p, self.sums]

    def to(self, device: torch.device | str) -> None:
        """Move both to a device."""
        self.p, self.sums = self.p.to(device), self.sums.to(device)

    @torch.no_grad()
    def observe(self, real_logits: Tensor, num_parts: int = 1) -> None:
        """Count the signs of D's logits (N, ...) of N augmented real images; every `interval` updates of D, p moves.

        An update has a call for each of the `num_parts` parts of its batch, and all its images have the same p.
        When that is, is found out on the device, so that it is right in a CUDA graph too. Every process must call it
        equally often: their counts are added up at each call.
        """
        if self.target is None:
            return
        seen = torch.ones_like(self.sums)
        seen[0].copy_(real_logits.sign().sum(dtype=torch.float32))
        seen[1].fill_(real_logits.numel())
        seen[2].fill_(len(torch.atleast_1d(real_logits)))
        if size() > 1:
            seen[:3].copy_(total(seen[:3]))
        self.sums += seen
        signs, logits, images, observations = self.sums.unbind()
        due = observations >= self.interval * num_parts
        moved = self.p + (signs / logits - self.target).sign() * images / self.images
        self.p.copy_(torch.where(due, moved.clamp(0, 1), self.p))
        self.sums.masked_fill_(due, 0)

    @torch.no_grad()
    def draw(self, images: Tensor) -> Drawn:
        """Draw anew for each image; raises InputError where the state is on another device than the images."""
        if self.p.device != images.device:
            raise InputError(
                f"ADA's state is on {self.p.device}, the images on {images.device}: call .to(device) on it"
            )
        applied = self._applied(images)
        return Drawn(self._augmented, _inverse_map(images, applied), _color_map(images, applied))

    def _applied(self, images: Tensor) -> dict[str, Tensor]:
        """Return which images (N,) each part is applied to, 1 or 0."""
        u = uniform(images, len(PARTS))
        usual = (u < self.p).to(u.dtype).unbind(1)
        rotation = (u < 1 - (1 - self.p).sqrt()).to(u.dtype).unbind(1)  # of the two, one or both with probability p
        off = torch.zeros_like(usual[0])
        return {
            part: (rotation if "rotation" in part else usual)[i] if group in self.pipeline else off
            for i, (part, group) in enumerate(PARTS.items())
        }

    def _augmented(self, images: Tensor, inverse: Tensor, colors: Tensor) -> Tensor:
        if "b" in self.pipeline or "g" in self.pipeline:
            images = _warped(images, inverse)
        return _recolored(images, colors) if "c" in self.pipeline else images


def _parts_at_zero(loss: AdversarialLoss, device: torch.device) -> bool:
    """Whether a D that cannot tell real from generated has its loss least at a logit of 0, and not far off."""
    alike = torch.tensor([-3.0, 0.0, 3.0], device=device)
    try:
        slopes = loss.differentiated(alike, alike)
    except Exception:  # one of probabilities, which have no sign
        return False
    below, at_zero, above = (slopes.real + slopes.fake).tolist()
    return bool(below < 0 < above and abs(at_zero) < 1e-6)


def _normal(images: Tensor, num_columns: int) -> Tensor:
    dtype = at_least_float32(images.new_empty(0)).dtype
    return torch.randn(len(images), num_columns, device=images.device, dtype=dtype)


def _inverse_map(images: Tensor, applied: dict[str, Tensor]) -> Tensor:
    """Return matrices (N, 2, 3): positions in the augmented images to those in the images, each from the centre.

    The parts are undone, the last one first.
    """
    height, width = images.shape[-2:]
    flip, turn = uniform(images, 2).unbind(1)
    right, down, angle, second_angle = (2 * uniform(images, 4) - 1).unbind(1)
    log_scale, log_stretch, offset_right, offset_down = _normal(images, 4).unbind(1)
    scale = torch.exp2(0.2 * log_scale * applied["scale"])[:, None]
    stretch = torch.exp2(0.2 * log_stretch * applied["stretch"])[:, None]

    identity = torch.eye(2, 3, device=images.device, dtype=flip.dtype)
    x, y = (row.repeat(len(images), 1) for row in identity)  # (N, 3): times right, times down, plus
    x[:, 2].sub_(applied["offset"] * offset_right * (width / 8))
    y[:, 2].sub_(applied["offset"] * offset_down * (height / 8))
    x, y = _rotated(x, y, math.pi * second_angle * applied["second_rotation"])
    x, y = x / stretch, y * stretch
    x, y = _rotated(x, y, math.pi * angle * applied["rotation"])
    x, y = x / scale, y / scale
    x[:, 2].sub_(applied["shift"] * (right * (width / 8)).round())
    y[:, 2].sub_(applied["shift"] * (down * (height / 8)).round())
    x, y = _rotated(x, y, math.pi / 2 * (4 * turn).floor() * applied["turn"], quarters=True)
    x = x * (1 - 2 * (2 * flip).floor() * applied["flip"])[:, None]
    return torch.stack([x, y], 1)


def _rotated(x: Tensor, y: Tensor, angle: Tensor, *, quarters: bool = False) -> tuple[Tensor, Tensor]:
    """Turn x to y; by `quarters`, cosine and sine are exactly 0 and 1, so that pixels are not mixed.

    No matmul: autocast and TF32 would round positions, by a pixel at the edge of an image.
    """
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    if quarters:
        cosine, sine = cosine.round(), sine.round()
    return cosine * x - sine * y, sine * x + cosine * y


def _warped(images: Tensor, inverse: Tensor) -> Tensor:
    """Interpolate images (N, S, C, H, W) between the four pixels around each position.

    By gather and in pixels: grid_sample mixes pixels even where nothing moves, for it takes positions in units of the
    image's size, and in older versions of PyTorch its derivative has no derivative.
    """
    height, width = images.shape[-2:]
    right = torch.arange(width, device=images.device, dtype=inverse.dtype) - (width - 1) / 2
    down = torch.arange(height, device=images.device, dtype=inverse.dtype)[:, None] - (height - 1) / 2
    (xx, xy, x0), (yx, yy, y0) = (row.unbind(1) for row in inverse[..., None, None].unbind(1))
    columns = _neighbours(xx * right + xy * down + x0 + (width - 1) / 2, width)
    rows = _neighbours(yx * right + yy * down + y0 + (height - 1) / 2, height)
    pixels, warped = images.flatten(-2), torch.zeros_like(images).flatten(-2)
    for row, of_row in rows:
        for column, of_column in columns:
            source = (row * width + column).flatten(1)[:, None, None]
            weight = (of_row * of_column).flatten(1)[:, None, None]
            warped = warped + weight * pixels.gather(-1, source.expand(*images.shape[:3], -1))
    return warped.unflatten(-1, (height, width))


def _neighbours(position: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the pixels before and after each position along an axis, and their weights."""
    position = _reflected(position, size)
    before = position.floor()
    after = (before + 1).clamp(max=size - 1)
    return (before.long(), 1 - (position - before)), (after.long(), position - before)


def _reflected(position: Tensor, size: int) -> Tensor:
    """Fold positions into 0 to size - 1, as at mirrors in the middle of the outermost pixels."""
    last = size - 1
    return last - (position.remainder(2 * last) - last).abs() if last else torch.zeros_like(position)


def _color_map(images: Tensor, applied: dict[str, Tensor]) -> Tensor:
    """Return the numbers (N, 4) of the affine maps of the channels.

    With the mean m of the channels and the rest d, the parts in their order make of m + d the colour
    contrast (luma (m + brightness) + saturation (cos d + sin v x d)), with luma 1 or -1 and v = (1, 1, 1) / sqrt 3.
    """
    luma_flip, hue = uniform(images, 2).unbind(1)
    brightness, contrast, saturation = _normal(images, 3).unbind(1)
    contrast = torch.exp2(0.5 * contrast * applied["contrast"])
    luma = contrast * (1 - 2 * (2 * luma_flip).floor() * applied["luma_flip"])
    chroma = contrast * torch.exp2(saturation * applied["saturation"])
    hue = math.pi * (2 * hue - 1) * applied["hue"]
    return torch.stack([luma * 0.2 * brightness * applied["brightness"], luma, chroma, hue], 1)


def _recolored(images: Tensor, colors: Tensor) -> Tensor:
    offset, luma, chroma, hue = colors[:, :, None, None, None, None].unbind(1)
    channels = images.shape[-3]
    if channels == 1:
        return luma * images + offset
    if channels != 3:
        return chroma * images + (luma - chroma) * images.mean(-3, keepdim=True) + offset
    along, across = chroma * hue.cos(), chroma * hue.sin() / math.sqrt(3)
    turned = images.roll(1, -3) - images.roll(-1, -3)  # sqrt 3 times v x image
    return along * images + (luma - along) * images.mean(-3, keepdim=True) + across * turned + offset
