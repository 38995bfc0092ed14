"""What `run.json` holds: what was asked, and the machine that it was asked of. Needs neither PyTorch nor NumPy."""

from typing import Any

from pydantic import ConfigDict, Field

from bench.results.values import Amount, Count, Moment, Positive, Row, Scheme
from bench.suite.plans import Quality, Target


class Machine(Row):
    """What something ran on. Null: not there, or not known."""

    device: str
    """As PyTorch names it: `cpu`, `cuda:0`."""
    gpu: str | None = None
    """Model of the GPU."""
    gpu_memory_mib: Count | None = None
    """MiB of the GPU's memory."""
    gpu_power_limit_watts: Amount | None = None
    """Watts that the driver enforces."""
    gpu_max_sm_clock_mhz: Count | None = None
    """The highest clock of the multiprocessors."""
    gpu_mig: bool | None = None
    """Whether it is partitioned."""
    gpu_ecc: bool | None = None
    """Whether its memory corrects errors."""
    driver: str | None = None
    """Version of NVIDIA's driver."""
    cuda: str | None = None
    """Version that PyTorch was built for."""
    cudnn: Count | None = None
    """Version."""
    cpu: str | None = None
    """Model of the processor."""
    cpu_cores: Count | None = None
    """Logical processors."""
    cpu_governor: str | None = None
    """Linux's rule for the processor's clock."""
    threads: Count | None = None
    """Threads that PyTorch computes with."""
    memory_mib: Count | None = None
    """MiB of main memory."""
    load_1min: Amount | None = None
    """Load average when it was described."""
    os: str | None = None
    """Operating system."""
    python: str | None = None
    """Version."""
    libraries: dict[str, str] = Field(default={})
    """Versions of PyTorch and others, by package."""
    environment: dict[str, str | None] | None = None
    """Environment variables that move numbers; null: not set. Formats before 4 do not have it."""
    commit: str | None = None
    """Of this repository."""
    dirty: bool | None = None
    """Whether the working tree had other changes."""


class Kept(Row):
    """A part of the suite as it was resolved, of which only what a report needs has a type."""

    model_config = ConfigDict(extra="allow")


class Optimizers(Kept):
    """The suite's `optimizer`."""

    n_critic: Positive = 1
    """Updates of D for one of G."""
    generator_clip: Amount | None = None
    """The largest norm of G's gradient; null: any."""
    discriminator_clip: Amount | None = None
    """The same of D's."""
    accumulate: Positive = 1
    """Parts of a batch."""
    gradient_normalization: Amount | None = None
    """Decay of the average that what arrives at the images is divided by; null: none."""


class Asked(Kept):
    """The suite as resolved, every default filled in."""

    name: str
    """Of the suite."""
    schemes: list[Scheme]
    """The arms of every case."""
    optimizer: Optimizers = Optimizers()
    """The optimizers of every arm."""
    timing: dict[str, Any] | None = Field(default={})
    """Null for a suite that only trains for quality."""
    quality: Quality | None = None
    """Null for a suite that only times."""
    targets: tuple[Target, ...] = ()
    """What a run shall show, stated beforehand."""
    seed: Count = 0
    """Of the weights, the order of the data and the latents."""


class Selection(Row):
    """Patterns of the command line."""

    only: tuple[str, ...] = ()
    """`--only`"""
    exclude: tuple[str, ...] = ()
    """`--exclude`"""


class RayFacts(Row):
    """The cluster that a run was asked of."""

    version: str | None = None
    """Of Ray."""
    device: str
    """Of every job: `cpu` or `cuda`."""
    nodes: Count | None = None
    """Nodes that were alive."""
    gpus: Count | None = None
    """GPUs of all of them."""
    cpus: Count | None = None
    """Processors of all of them."""


class Manifest(Row):
    """What was asked, and where. The suite stands in it whole, every default filled in: see [suites](suites.md)."""

    format: int
    """The version."""
    suite: Asked
    """The suite as resolved."""
    selection: Selection = Selection()
    """`--only` and `--exclude`."""
    cases: list[str]
    """Names of all cases, in the order of the suite."""
    machine: Machine
    """Where it was started."""
    data: str | None = None
    """`--data` as it was given."""
    started: Moment
    """When, UTC."""
    ray: RayFacts | None = None
    """Of a run on a cluster, how it was asked for."""
