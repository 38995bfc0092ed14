"""Checks of the plain values that a recipe and the settings of distillation are made of; each raises InputError."""

import math
import sys
from collections.abc import Callable
from typing import Any

from osgan.errors import InputError

MOST_CRITIC_STEPS = 1000


def check_count(name: str, value: Any, *, least: int) -> None:
    """Accept a whole number from `least` that a float holds exactly."""
    if type(value) is not int or not least <= value < 2**53:
        raise InputError(f"{name} must be a whole number from {least} to 2^53, got {shown(value)}")


def check_critic_steps(value: Any) -> None:
    """Accept how often D is updated for one update of G."""
    if type(value) is not int or not 1 <= value <= MOST_CRITIC_STEPS:
        raise InputError(f"n_critic, the updates of D a step, is 1 to {MOST_CRITIC_STEPS}; got {shown(value)}")


def check_clip(name: str, value: Any) -> None:
    """Accept the largest norm of a gradient, or None for any."""
    if value is not None:
        check_real(name, value, lambda limit: 0 < limit < math.inf, "above 0, or None")


def check_real(name: str, value: Any, holds: Callable[[float], bool], accepted: str) -> None:
    """Accept a finite number of which `holds` is true; `accepted` says in words which."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or abs(value) > sys.float_info.max or not holds(value):  # a whole number may be above every float
        raise InputError(f"{name} must be {accepted}, got {shown(value)}")


def check_seed(value: Any) -> None:
    """Accept what torch.manual_seed takes, as a signed number."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise InputError(f"seed must be a whole number of 64 bits, got {shown(value)}")


def shown(value: Any) -> str:
    """Write a value for a message, cut short."""
    try:
        return repr(value)[:40]
    except ValueError:  # of more digits than Python writes
        return "a number of thousands of digits"
