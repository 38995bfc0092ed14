"""Cases, and the parts of a suite that expand to them: the matrices of GANs, of distillation, and other games."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

AXES = ("dataset", "architecture", "loss", "batch_size", "precision", "engine")


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

    model_config = ConfigDict(frozen=True, extra="forbid")


class Distill(Frozen):
    """The players of data-free distillation; what is None is as published for the data set (`osgan.distill`)."""

    teacher: str
    student: str
    generator: str
    student_steps: Annotated[int, Field(ge=1)] = 5
    teacher_epochs: Annotated[int, Field(ge=1)] | None = None
    student_lr: Positive | None = None
    generator_lr: Positive | None = None

    def __str__(self) -> str:
        return f"{self.teacher} to {self.student} by {self.generator}, {self.student_steps} student steps"


class Case(Frozen):
    """One point of the matrix. Its arms differ in the scheme and in nothing else."""

    dataset: str
    architecture: str
    loss: str
    batch_size: BatchSize
    precision: Precision = "fp32"
    engine: str = "eager"
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
        return " ".join(str(getattr(self, axis)) for axis in AXES)


class Matrix(Frozen):
    """The axes whose product gives cases; a single value stands for a list of one."""

    dataset: axis(str)  # type: ignore[valid-type]
    architecture: axis(str)  # type: ignore[valid-type]
    loss: axis(str)  # type: ignore[valid-type]
    batch_size: axis(BatchSize)  # type: ignore[valid-type]
    precision: axis(Precision) = ("fp32",)  # type: ignore[valid-type]
    engine: axis(str) = ("eager",)  # type: ignore[valid-type]


class DistillMatrix(Frozen):
    """Cases of data-free distillation: the product of the axes, over one set of players."""

    dataset: axis(str)  # type: ignore[valid-type]
    teacher: str
    student: str
    generator: str
    loss: axis(str) = ("l1",)  # type: ignore[valid-type]
    batch_size: axis(BatchSize)  # type: ignore[valid-type]
    student_steps: axis(Annotated[int, Field(ge=1)]) = (5,)  # type: ignore[valid-type]
    teacher_epochs: int | None = None
    student_lr: Positive | None = None
    generator_lr: Positive | None = None

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
    dataset: str = "its own"
    loss: str = "its own"
    batch_size: BatchSize = 64

    def cases(self) -> Iterator[Case]:
        """Return the one case."""
        yield Case(**self.model_dump(), architecture=self.game)


class Exclude(Frozen):
    """Cases to leave out: those that match on every axis given."""

    dataset: axis(str) | None = None  # type: ignore[valid-type]
    architecture: axis(str) | None = None  # type: ignore[valid-type]
    loss: axis(str) | None = None  # type: ignore[valid-type]
    batch_size: axis(BatchSize) | None = None  # type: ignore[valid-type]
    precision: axis(Precision) | None = None  # type: ignore[valid-type]
    engine: axis(str) | None = None  # type: ignore[valid-type]

    def matches(self, case: Case) -> bool:
        """Whether the case is left out by this entry."""
        given = {axis: getattr(self, axis) for axis in AXES if getattr(self, axis) is not None}
        return bool(given) and all(getattr(case, axis) in accepted for axis, accepted in given.items())
