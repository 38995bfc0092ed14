"""Cases, and the parts of a suite that expand to them: the matrices of GANs, of distillation, and other games."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

AXES = ("dataset", "architecture", "loss", "batch_size", "precision", "engine")
MATRIX_AXES = (*AXES, "world_size", "augmentation")


def as_tuple(value: Any) -> Any:
    """Let a single value stand for a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def axis(item: Any) -> Any:
    """Return the type of an axis of such items: a list of at least one."""
    return Annotated[tuple[item, ...], BeforeValidator(as_tuple), Field(min_length=1)]


Precision = Literal["fp32", "tf32", "bf16"]
BatchSize = Annotated[int, Field(gt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Frozen(BaseModel):
    """A part of a suite: immutable, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def process_name(case: str, process: int) -> str:
    """Return the name of a case in one of its processes; in the first it is the case's."""
    return f"{case} / process {process + 1}" if process else case


class Distill(Frozen):
    """The players of data-free distillation; what is None is as published for the data set (`osgan.distill`)."""

    teacher: str
    """Network, or an import path."""
    student: str
    """The same."""
    generator: str
    """The same."""
    student_steps: Annotated[int, Field(ge=1)] = 5
    """Updates of the student for one of the generator."""
    teacher_epochs: Annotated[int, Field(ge=1)] | None = None
    """Length of the teacher's training."""
    student_lr: Positive | None = None
    """SGD's learning rate."""
    generator_lr: Positive | None = None
    """Adam's learning rate."""

    def __str__(self) -> str:
        return f"{self.teacher} to {self.student} by {self.generator}, {self.student_steps} student steps"


class Case(Frozen):
    """One point of the matrix. Its arms differ in the scheme and in nothing else."""

    dataset: str
    """Data set, or an import path."""
    architecture: str
    """Networks with their options, or an import path."""
    loss: str
    """Loss with its regularizers."""
    batch_size: BatchSize
    """Real images of one update of D."""
    precision: Precision = "fp32"
    """Precision of a step."""
    engine: str = "eager"
    """How a step reaches the device."""
    world_size: Annotated[int, Field(ge=1)] = 1
    """Processes that take a step together, data-parallel; `batch_size` is each one's."""
    augmentation: str = "none"
    """What D sees real and generated images through."""
    distill: Distill | None = None
    """Data-free distillation; `architecture` then names its players."""
    game: str | None = None
    """Another game, a class at an import path; `architecture` then is that path."""

    @property
    def is_gan(self) -> bool:
        """Whether the case trains G and D of `architecture` on `dataset`."""
        return self.distill is None and self.game is None

    @property
    def name(self) -> str:
        """The case's one name, in results and reports."""
        processes = [f"{self.world_size} processes"] if self.world_size > 1 else []
        augmented = [] if self.augmentation == "none" else [f"augmented by {self.augmentation}"]
        return " ".join([*(str(getattr(self, axis)) for axis in AXES), *processes, *augmented])


class Matrix(Frozen):
    """The axes whose product gives cases; a single value stands for a list of one."""

    dataset: axis(str)  # type: ignore[valid-type]
    """Data set, or an import path."""
    architecture: axis(str)  # type: ignore[valid-type]
    """Networks with their options, or an import path; every arm of a case has the same."""
    loss: axis(str)  # type: ignore[valid-type]
    """Loss with its regularizers."""
    batch_size: axis(BatchSize)  # type: ignore[valid-type]
    """Real images of one update of D."""
    precision: axis(Precision) = ("fp32",)  # type: ignore[valid-type]
    """Precision of a step."""
    engine: axis(str) = ("eager",)  # type: ignore[valid-type]
    """How a step reaches the device."""
    world_size: axis(Annotated[int, Field(ge=1)]) = (1,)  # type: ignore[valid-type]
    """Processes that take a step together, data-parallel, each on a batch of `batch_size`; a GPU each where there are
    GPUs, and a share of the cores on a CPU."""
    augmentation: axis(str) = ("none",)  # type: ignore[valid-type]
    """What D sees real and generated images through: none, diffaugment, ada, with their options."""


class DistillMatrix(Frozen):
    """Cases of data-free distillation: the product of the axes, over one set of players."""

    dataset: axis(str)  # type: ignore[valid-type]
    """Data set that the teacher is trained on and the student is judged on."""
    teacher: str
    """Network, or an import path."""
    student: str
    """Network, or an import path."""
    generator: str
    """Network, or an import path."""
    loss: axis(str) = ("l1",)  # type: ignore[valid-type]
    """Loss of the student, with its terms: `l1+one_hot=1`."""
    batch_size: axis(BatchSize)  # type: ignore[valid-type]
    """Images of one update."""
    student_steps: axis(Annotated[int, Field(ge=1)]) = (5,)  # type: ignore[valid-type]
    """Updates of the student for one of the generator."""
    teacher_epochs: int | None = None
    """Length of the teacher's training; null: as published for the data."""
    student_lr: Positive | None = None
    """SGD's learning rate; null: as published for the data."""
    generator_lr: Positive | None = None
    """Adam's learning rate; null: as published for the data."""

    def cases(self) -> Iterator[Case]:
        """Expand the axes, in the order written."""
        axes = (self.dataset, self.loss, self.batch_size, self.student_steps)
        players = self.model_dump(exclude={"dataset", "loss", "batch_size", "student_steps"})
        for dataset, loss, batch_size, steps in itertools.product(*axes):
            distill = Distill(**players, student_steps=steps)
            yield Case(dataset=dataset, architecture=str(distill), loss=loss, batch_size=batch_size, distill=distill)


class GameCase(Frozen):
    """A game that brings its own data and networks: a class at an import path, its methods named as the schemes."""

    game: str
    """Import path of the class."""
    dataset: str = "its own"
    """What tables call its data."""
    loss: str = "its own"
    """What tables call its loss."""
    batch_size: BatchSize = 64
    """Given to the class, where it takes one."""

    def cases(self) -> Iterator[Case]:
        """Return the one case."""
        yield Case(**self.model_dump(), architecture=self.game)


class Exclude(Frozen):
    """Cases to leave out: those that match on every axis given."""

    dataset: axis(str) | None = None  # type: ignore[valid-type]
    """One of these, written as in the matrix; null: any."""
    architecture: axis(str) | None = None  # type: ignore[valid-type]
    """The same."""
    loss: axis(str) | None = None  # type: ignore[valid-type]
    """The same."""
    batch_size: axis(BatchSize) | None = None  # type: ignore[valid-type]
    """The same."""
    precision: axis(Precision) | None = None  # type: ignore[valid-type]
    """The same."""
    engine: axis(str) | None = None  # type: ignore[valid-type]
    """The same."""
    world_size: axis(int) | None = None  # type: ignore[valid-type]
    """The same."""
    augmentation: axis(str) | None = None  # type: ignore[valid-type]
    """The same."""

    @property
    def given(self) -> dict[str, Any]:
        """What is accepted, by the axes that are given."""
        return {axis: getattr(self, axis) for axis in MATRIX_AXES if getattr(self, axis) is not None}

    def matches(self, case: Case) -> bool:
        """Whether the case is left out by this entry."""
        given = self.given
        return bool(given) and all(getattr(case, axis) in accepted for axis, accepted in given.items())
