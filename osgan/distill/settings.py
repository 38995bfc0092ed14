"""Everything that decides a run of distillation, with the published settings of DFAD (Fang et al. 2019) as defaults.

Lengths are numbers of steps; milestones are shares of the run, so that a shorter run has the same schedule.
"""

import math
from dataclasses import dataclass, replace

from osgan.errors import InputError
from osgan.limits import check_count, check_real, check_seed


def _check(
    settings: object, *, whole: tuple[str, ...], positive: tuple[str, ...], milestones: tuple[float, ...]
) -> None:
    for name in whole:
        check_count(name, getattr(settings, name), least=1)
    for name in positive:
        check_real(name, getattr(settings, name), lambda value: 0 < value < math.inf, "a number above 0")
    for name in ("momentum", "weight_decay"):
        check_real(name, getattr(settings, name), lambda value: 0 <= value < math.inf, "a number from 0")
    check_seed(getattr(settings, "seed"))  # noqa: B009, of either kind of settings
    if not isinstance(milestones, tuple):
        raise InputError(f"milestones are shares of the run, such as (0.5, 0.75), got {milestones!r}")
    for share in milestones:
        if isinstance(share, bool) or not isinstance(share, float) or not 0 < share < 1:
            raise InputError(f"milestones are shares of the run, between 0 and 1, got {share!r}")


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """How a teacher is trained: SGD with momentum on the cross-entropy."""

    network: str = "lenet5"
    epochs: int = 10
    batch_size: int = 256
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple[float, ...] = ()
    """Shares of the run at which the learning rate drops to a tenth."""
    augment: bool = False
    """Random crops of the image padded by 4 pixels, and mirror images."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, whole=("epochs", "batch_size"), positive=("lr",), milestones=self.milestones)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a student is distilled: SGD with momentum for the student, Adam for the generator."""

    student: str = "lenet5_half"
    generator: str = "dfad"
    scheme: str = "one_stage"
    loss: str = "l1"
    student_steps: int = 5
    """Updates of the student a step."""
    steps: int = 2000
    batch_size: int = 512
    student_lr: float = 0.01
    generator_lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple[float, ...] = ()
    """Shares of the run at which both learning rates drop to a tenth."""
    seed: int = 0

    def __post_init__(self) -> None:
        whole = ("student_steps", "steps", "batch_size")
        _check(self, whole=whole, positive=("student_lr", "generator_lr"), milestones=self.milestones)


GREY = TeacherSettings(), Settings()
"""MNIST as published."""
COLOUR = (
    TeacherSettings(
        network="resnet34",
        epochs=200,
        batch_size=128,
        lr=0.1,
        weight_decay=5e-4,
        milestones=(0.25, 0.5, 0.75),
        augment=True,
    ),
    Settings(
        student="resnet18",
        generator="dfad+latent_dim=256",
        steps=25_000,
        batch_size=256,
        student_lr=0.1,
        weight_decay=5e-4,
        milestones=(0.2, 0.4),
    ),
)
"""CIFAR-10 and CIFAR-100 as published; the milestones are those that the authors' scripts offer."""
DIGITS = (
    replace(GREY[0], epochs=60, batch_size=64),
    replace(GREY[1], generator="dfad+width=8", steps=240, batch_size=64, milestones=(0.5, 0.8)),
)
"""scikit-learn's digits in a minute or two on one CPU core: the learning rates are MNIST's."""


def defaults_for(dataset: str, channels: int) -> tuple[TeacherSettings, Settings]:
    """Return the settings a data set starts from."""
    if dataset == "digits":
        return DIGITS
    return GREY if channels == 1 else COLOUR


def is_milestone(step: int, steps: int, milestones: tuple[float, ...]) -> bool:
    """Say whether the learning rate drops after so many steps of the run."""
    return step in {round(share * steps) for share in milestones}
