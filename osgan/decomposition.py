"""Gradient decomposition (OSGAN paper, section 3): one backward pass through D carries both players' gradients.

For a D that scores each image on its own, all that a backward pass sends through D for fake i is proportional to the
derivative at its logit s_i. So D's own derivative, the carrier, is sent once; what arrives at the image, times
ratio_i = (dL_G/ds_i) / carrier_i, is G's gradient. This module knows numbers a sample, no network.
"""

import torch
from torch import Tensor

from osgan.errors import InputError

RELATIVE_FLOOR = {torch.float64: 1e-17, torch.float32: 1e-8}
"""Least |carrier| in units of |dL_G/ds|: it moves D's gradient by less than the precision tells."""


def decompose(
    fake: Tensor, generator: Tensor, dtype: torch.dtype | None = None, floor: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return (carrier, ratio) for the derivatives dL_D/ds `fake` and dL_G/ds `generator`, both of one shape.

    Where dL_D/ds vanishes and dL_G/ds does not (hinge below -1, LSGAN at 0, non-saturating far below 0) the carrier is
    held at `floor` (None: RELATIVE_FLOOR) times |dL_G/ds|, sign kept: unfloored, G's gradient would be 0/0 there.
    `dtype` is the logits' precision: the carrier is rounded to it before the ratio is taken, so that the rounding
    cancels in G's gradient.
    Raises InputError for derivatives that are neither float32 nor float64, and for float16 logits, whose range does not
    hold a floored carrier, unless a floor is given.
    """
    if floor is None:
        refuse_float16(dtype)
    if generator.dtype not in RELATIVE_FLOOR:
        raise InputError(f"derivatives at the logits must be float32 or float64, got {generator.dtype}")
    least = (RELATIVE_FLOOR[generator.dtype] if floor is None else floor) * generator.abs()
    carrier = torch.where(fake.abs() < least, torch.copysign(least, fake), fake)
    if dtype is not None:
        carrier = carrier.to(dtype).to(fake.dtype)
    # Only a fake whose loss is flat for both players still has a carrier of 0: its ratio is 0 as well.
    ratio = generator / torch.where(carrier == 0, 1, carrier)
    return carrier, ratio


def refuse_float16(dtype: torch.dtype | None) -> None:
    """Raise InputError for logits whose gradients would vanish, whatever the loss."""
    if dtype == torch.float16:
        raise InputError("float16 logits lose small gradients: use bfloat16, or let D return its logits in float32")
