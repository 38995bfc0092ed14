"""How the steps of a scheme reach the device: eager, compiled, or captured once as a CUDA graph and replayed.

The numbers are those of the eager step; only the way to the device differs. An engine is what is asked for;
`osgan.training.loop` does it. Deliberately not here: what a step is (`osgan.schemes`), and CUDA graphs of parts of a
step: the whole step is captured, from the batch to the optimizers.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from osgan import spec
from osgan.errors import InputError, unknown

Mode = Literal["eager", "compile", "cuda_graph", "compile_cuda_graph"]
Precision = Literal["fp32", "tf32", "bf16"]
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


JOINT_BATCH = {"yes": True, "true": True, "no": False, "false": False}
"""How an engine's option is written in a spec."""


class EngineWarning(UserWarning):
    """An engine cannot do what was asked for here and does something slower; the message names the cause."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How steps are run; see `Loop`.

    `precision` is fp32 (TF32 off), tf32, or bf16 (autocast; weights, losses and ratios stay in float32). `joint_batch`
    says whether real and fake images share a batch under a sample-wise D; None leaves it to the device.
    """

    mode: Mode = "eager"
    precision: Precision = "fp32"
    memory_format: str = "channels_last"
    joint_batch: bool | None = None

    def __post_init__(self) -> None:
        accepted = {"mode": get_args(Mode), "precision": get_args(Precision), "memory_format": MEMORY_FORMATS}
        for name, values in accepted.items():
            if getattr(self, name) not in values:
                raise unknown(f"engine {name}", getattr(self, name), values)
        if self.joint_batch is not None and not isinstance(self.joint_batch, bool):
            raise InputError(f"engine joint_batch is True, False or None, got {self.joint_batch!r}")

    @classmethod
    def parse(cls, text: str, precision: str = "fp32") -> "Engine":
        """Read `cuda_graph` or `eager+memory_format=contiguous`; raises InputError for what is unknown."""
        parsed = spec.parse(text)
        if parsed.name not in get_args(Mode):
            raise unknown("engine", parsed.name, get_args(Mode))
        options: dict[str, Any] = dict(parsed.options)
        if (joint := str(options.get("joint_batch")).lower()) in JOINT_BATCH:
            options["joint_batch"] = JOINT_BATCH[joint]
        for key in options:
            if key not in ("memory_format", "joint_batch"):
                raise unknown(f"option of engine {text!r}:", key, ("memory_format", "joint_batch"))
        return cls(mode=parsed.name, precision=precision, **options)  # type: ignore[arg-type]

    @property
    def compiles(self) -> bool:
        """Whether G and D go through torch.compile."""
        return self.mode in ("compile", "compile_cuda_graph")

    @property
    def captures(self) -> bool:
        """Whether the step becomes a CUDA graph."""
        return self.mode in ("cuda_graph", "compile_cuda_graph")
