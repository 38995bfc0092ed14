"""What a value of a row can be: the types of numbers, times and paths, and the model that rows are made of.

The bounds refuse what no machine can have measured; what lies between them needs no check where it is used.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Row(BaseModel):
    """A part of a row: immutable, and no key that is not known, unless it is read from a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Status = Literal["ok", "failed", "skipped"]
Scheme = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=100)]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$")]

Milliseconds = Annotated[float, Field(ge=1e-9, le=1e12)]
"""Of something that took time."""
Rate = Annotated[float, Field(ge=1e-9, le=1e30)]
"""So much a second; above 0."""
Amount = Annotated[float, Field(ge=0, le=1e15)]
"""A measured quantity; 0 is one."""
Real = Annotated[float, Field(ge=-1e15, le=1e15)]
"""A measured quantity of either sign."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]

OUT_OF_MEMORY = "memory"
"""What ended the search for the largest batch, where it was the GPU's memory."""


def _in_the_samples(path: str) -> str:
    parts = PurePosixPath(path).parts
    if parts[:1] != ("samples",) or len(parts) < 2 or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError("a picture is named by its path from the run's folder, which begins with samples/")
    return path


SamplePath = Annotated[str, AfterValidator(_in_the_samples)]
