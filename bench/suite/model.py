"""Suites: a YAML file becomes frozen cases, validated as a whole before anything runs.

An error names the file, the key, the value and what would be accepted. Nothing here touches a device or an image.
"""

import itertools
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from bench.suite.cases import (
    MATRIX_AXES,
    Case,
    DistillMatrix,
    Exclude,
    Frozen,
    GameCase,
    Matrix,
    as_tuple,
    axis,
)
from bench.suite.plans import Adam, Memory, Override, Quality, Samples, Target, Timing
from osgan.errors import InputError
from osgan.names import SCHEME_NAMES

CONTROL = "control"
"""The arm that is one_stage a second time: A against A, whose ratio should be 1 on a machine that can tell."""


def built_as(scheme: str) -> str:
    """Return the scheme that an arm takes its steps by: its own name, of the control one_stage."""
    return "one_stage" if scheme == CONTROL else scheme


WITHOUT_NAMES = "without names"
"""Context of a validation that does not ask whether what the suite names exists, which takes PyTorch."""


class Suite(Frozen):
    """The keys of the file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Of the folder of its results: letters, digits, `_`, `.` and `-`."""
    about: str = ""
    """What it is for; stands in `python -m bench list`."""
    schemes: axis(str) = SCHEME_NAMES  # type: ignore[valid-type]
    """The arms of every case; `control` is one_stage once more, for the scatter of the measurement itself."""
    matrix: Annotated[tuple[Matrix, ...], BeforeValidator(as_tuple)] = ()
    """Cases of GANs: one matrix, or a list of them."""
    distill: Annotated[tuple[DistillMatrix, ...], BeforeValidator(as_tuple)] = ()
    """Cases of data-free distillation: one matrix, or a list of them."""
    games: Annotated[tuple[GameCase, ...], BeforeValidator(as_tuple)] = ()
    """Cases of other games: one, or a list of them."""
    exclude: tuple[Exclude, ...] = ()
    """Cases to leave out."""
    optimizer: Adam = Adam()
    """The optimizers of every arm."""
    fallback: Literal["simultaneous"] | None = None
    """What an arm runs as where one_stage is not exact for the case; null skips the arm. Every table marks it."""
    overrides: tuple[Override, ...] = ()
    """Settings of one scheme's own: for other people's configurations, UNMATCHED on purpose."""
    timing: Timing | None = Timing()
    """How long a case is timed; null for a suite that only trains for quality."""
    quality: Quality | None = None
    """How long every arm is trained and how it is judged; null for a suite that only times."""
    samples: Samples = Samples()
    """Grids of generated images."""
    memory: Memory = Memory()
    """What is measured of memory."""
    targets: tuple[Target, ...] = ()
    """What a run shall show, stated beforehand."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the weights, the order of the data and the latents; `--seed` on the command line goes before it."""

    @model_validator(mode="after")
    def _names_exist(self, info: ValidationInfo) -> "Suite":
        if info.context == WITHOUT_NAMES:
            return self
        from bench.suite.checks import check_names  # the code that the names are of: PyTorch, and seconds

        check_names(self)
        return self

    def settings(self, case: Case, scheme: str) -> dict[str, Any]:
        """Return what overrides set for one scheme of a case: empty for arms that differ in the scheme alone."""
        found: dict[str, Any] = {}
        for override in self.overrides:
            if override.applies(case, built_as(scheme)):
                found |= override.set.model_dump(exclude_none=True)
        return found

    def cases(self) -> list[Case]:
        """Expand the matrices, in the order written, without repeats and without what is excluded."""
        points = (
            Case(**dict(zip(MATRIX_AXES, values, strict=True)))
            for matrix in self.matrix
            for values in itertools.product(*(getattr(matrix, axis) for axis in MATRIX_AXES))
        )
        sources: tuple[DistillMatrix | GameCase, ...] = (*self.distill, *self.games)
        others = (case for source in sources for case in source.cases())
        cases = [case for case in dict.fromkeys([*points, *others]) if not any(e.matches(case) for e in self.exclude)]
        if not cases:
            raise InputError(
                "no case is left: `exclude` matches all of them"
                if self.exclude
                else "there is no case: write a `matrix`"
            )
        return cases
