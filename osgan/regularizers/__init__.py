"""Regularizers: penalties on D's gradient, exact and by finite differences, limits of its weights, G's consistency.

By class for those who build a scheme, by `name=weight` in the loss of a recipe, a suite or a command (`parse_loss`).
"""

from osgan.regularizers.approximate import AR1, AR2, ApproximatePenalty
from osgan.regularizers.base import Regularizer
from osgan.regularizers.consistency import Consistency
from osgan.regularizers.gradient import R1, R2, GradientPenalty
from osgan.regularizers.parsing import REGULARIZERS, from_options, parse_loss
from osgan.regularizers.weights import WeightClipping

__all__ = [
    "AR1",
    "AR2",
    "R1",
    "R2",
    "REGULARIZERS",
    "ApproximatePenalty",
    "Consistency",
    "GradientPenalty",
    "Regularizer",
    "WeightClipping",
    "from_options",
    "parse_loss",
]
