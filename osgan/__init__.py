"""One-stage GAN training: both players' gradients from one forward and one backward pass (Shen et al., CVPR 2021).

A name is imported when it is first asked for, so the schemes need PyTorch alone and `osgan.errors` not even that.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from osgan import losses, nets, regularizers
    from osgan.adaptive import ADA
    from osgan.augmentation import Augmentation, DiffAugment
    from osgan.building import SCHEMES, build_scheme
    from osgan.cost import Prediction, predict_speedup
    from osgan.errors import InputError, InputWarning, NonFiniteLossError
    from osgan.latent import Gaussian
    from osgan.losses import AdversarialLoss
    from osgan.normalization import GradientNormalization
    from osgan.parallel.ddp import distribute
    from osgan.passes import backward, tap
    from osgan.schemes import OneStage, Simultaneous, TwoStage
    from osgan.staggered import OneStageStaggered
    from osgan.step import Scheme, StepStats
    from osgan.training import optim
    from osgan.training.accelerate import Accelerated
    from osgan.training.engine import Engine, EngineWarning
    from osgan.training.loop import Loop
    from osgan.training.recipe import Recipe
    from osgan.training.trainer import Trainer
    from osgan.verification import Verification, verify

__all__ = [
    "ADA",
    "SCHEMES",
    "Accelerated",
    "AdversarialLoss",
    "Augmentation",
    "DiffAugment",
    "Engine",
    "EngineWarning",
    "Gaussian",
    "GradientNormalization",
    "InputError",
    "InputWarning",
    "Loop",
    "NonFiniteLossError",
    "OneStage",
    "OneStageStaggered",
    "Prediction",
    "Recipe",
    "Scheme",
    "Simultaneous",
    "StepStats",
    "Trainer",
    "TwoStage",
    "Verification",
    "backward",
    "build_scheme",
    "distribute",
    "losses",
    "nets",
    "optim",
    "predict_speedup",
    "regularizers",
    "tap",
    "verify",
]

_MODULES = dict.fromkeys(("data", "distill", "losses", "metrics", "nets", "regularizers"), "osgan") | {
    "optim": "osgan.training"
}
_HOMES = {
    "osgan.passes": ("backward", "tap"),
    "osgan.adaptive": ("ADA",),
    "osgan.augmentation": ("Augmentation", "DiffAugment"),
    "osgan.building": ("SCHEMES", "build_scheme"),
    "osgan.cost": ("Prediction", "predict_speedup"),
    "osgan.errors": ("InputError", "InputWarning", "NonFiniteLossError"),
    "osgan.latent": ("Gaussian",),
    "osgan.losses": ("AdversarialLoss",),
    "osgan.normalization": ("GradientNormalization",),
    "osgan.parallel.ddp": ("distribute",),
    "osgan.schemes": ("OneStage", "Simultaneous", "TwoStage"),
    "osgan.staggered": ("OneStageStaggered",),
    "osgan.step": ("Scheme", "StepStats"),
    "osgan.training.accelerate": ("Accelerated",),
    "osgan.training.engine": ("Engine", "EngineWarning"),
    "osgan.training.loop": ("Loop",),
    "osgan.training.recipe": ("Recipe",),
    "osgan.training.trainer": ("Trainer",),
    "osgan.verification": ("Verification", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found = import_module(f"{_MODULES[name]}.{name}")
    elif name in _HOME_OF:
        found = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'osgan' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
