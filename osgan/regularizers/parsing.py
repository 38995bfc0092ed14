"""Regularizers as a loss writes them: `rpgan+r1=0.05+r2=0.05`, `hinge+ar1=1/4+sigma=0.01+share=0.25`."""

import math
import re
from collections.abc import Sequence
from typing import Any

from osgan import spec
from osgan.errors import InputError, unknown
from osgan.regularizers.approximate import AR1, AR2, ApproximatePenalty
from osgan.regularizers.base import Regularizer
from osgan.regularizers.consistency import Consistency
from osgan.regularizers.gradient import R1, R2, GradientPenalty
from osgan.regularizers.weights import WeightClipping

REGULARIZERS: dict[str, Any] = {
    "r1": R1,
    "r2": R2,
    "ar1": AR1,
    "ar2": AR2,
    "gradient_penalty": GradientPenalty,
    "consistency": Consistency,
    "weight_clipping": WeightClipping,
}
WITH_INTERVAL = (R1, AR1, AR2, GradientPenalty)
OF_APPROXIMATE = ("sigma", "share")
"""Options of all approximate penalties of a loss."""


def from_options(options: Sequence[tuple[str, Any]]) -> tuple[Regularizer, ...]:
    """Build the regularizers of a loss written `name+r1=10/16+weight_clipping=0.01`, in that order.

    `10/16` is the weight 10 with the interval 16: at every 16th step, 16 times as strong. `sigma` and `share` are those
    of the approximate penalties, wherever they stand.
    """
    shared = {name: _number(name, value) for name, value in options if name in OF_APPROXIMATE}
    found = tuple(_from_option(name, value, shared) for name, value in options if name not in OF_APPROXIMATE)
    if shared and not any(isinstance(regularizer, ApproximatePenalty) for regularizer in found):
        raise InputError(f"{next(iter(shared))!r} is an option of ar1 and ar2, and the loss has neither")
    return found


def parse_loss(text: str) -> tuple[str, tuple[Regularizer, ...]]:
    """Split `wgan+weight_clipping=0.01` into the loss's name and its regularizers."""
    parsed = spec.parse(text)
    return parsed.name, from_options(parsed.options)


def _from_option(name: str, value: Any, shared: dict[str, float]) -> Any:
    if name not in REGULARIZERS:
        raise unknown("regularizer", name, [*REGULARIZERS, *OF_APPROXIMATE])
    kind: type[Any] = REGULARIZERS[name]
    options = shared if issubclass(kind, ApproximatePenalty) else {}
    if isinstance(value, str) and (lazy := re.fullmatch(r"([^/]+)/\s*(\d+)", value)):
        if not issubclass(kind, WITH_INTERVAL):
            raise InputError(f"regularizer {name!r} takes no interval: it acts at every step, got {value!r}")
        return kind(_number(name, lazy[1]), int(lazy[2]), **options)
    return kind(_number(name, value), **options)


def _number(name: str, value: Any) -> float:
    try:
        if not isinstance(value, bool) and math.isfinite(number := float(value)):
            return number
    except (TypeError, ValueError):
        pass
    takes = "a number" if name in OF_APPROXIMATE else "a number, or WEIGHT/INTERVAL as 10/16"
    kind = "option" if name in OF_APPROXIMATE else "regularizer"
    raise InputError(f"{kind} {name!r} takes {takes}, got {value!r}")
