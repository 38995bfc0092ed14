"""One-stage GAN training: both players' gradients from one forward and one backward pass (Shen et al., CVPR 2021)."""

from osgan import losses, nets, optim, regularizers
from osgan.accelerate import Accelerated
from osgan.cost import Prediction, predict_speedup
from osgan.distributed import distribute
from osgan.engine import Engine, EngineWarning
from osgan.errors import InputError, InputWarning, NonFiniteLossError
from osgan.latent import Gaussian
from osgan.loop import Loop
from osgan.losses import AdversarialLoss
from osgan.recipe import Recipe
from osgan.schemes import SCHEMES, OneStage, Simultaneous, TwoStage, build_scheme
from osgan.step import Scheme, StepStats
from osgan.train import Trainer
from osgan.verify import Verification, verify

__version__ = "0.1.0"

__all__ = [
    "SCHEMES",
    "Accelerated",
    "AdversarialLoss",
    "Engine",
    "EngineWarning",
    "Gaussian",
    "InputError",
    "InputWarning",
    "Loop",
    "NonFiniteLossError",
    "OneStage",
    "Prediction",
    "Recipe",
    "Scheme",
    "Simultaneous",
    "StepStats",
    "Trainer",
    "TwoStage",
    "Verification",
    "build_scheme",
    "distribute",
    "losses",
    "nets",
    "optim",
    "predict_speedup",
    "regularizers",
    "verify",
]
