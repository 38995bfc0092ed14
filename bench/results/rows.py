"""The rows of a run's two files, each key with its meaning, its unit and what it can be at all.

What is missing is None, never 0. A key that is not known is an error in what is to be written; what is read keeps it,
as a later writer of the same format may have put it there. Needs neither PyTorch nor NumPy.
"""

from pydantic import AliasChoices, Field, model_validator

from bench.results.parts import AnyArm, Context, Kernel, Measured
from bench.results.values import (
    Amount,
    Count,
    Milliseconds,
    Positive,
    Rate,
    Real,
    Row,
    SamplePath,
    Scheme,
)
from bench.suite.cases import process_name
from bench.suite.names import part_name


class Arm(AnyArm):
    """One scheme of a timed case. Milliseconds, counts and work are those of one step."""

    wall_ms: tuple[Milliseconds, ...] = ()
    """**The measurement**: wall-clock milliseconds of every round, raw; none: not timed."""
    device_ms: tuple[Milliseconds, ...] | None = None
    """The same between events on the GPU's clock; null on a CPU."""
    host_ms: tuple[Milliseconds, ...] | None = None
    """The same until the host had issued the work; null on a CPU."""
    step_ms: Milliseconds | None = None
    """Milliseconds at the end of the warm-up."""
    warmup_steps: Count | None = None
    """Steps of the untimed warm-up."""
    steady: bool | None = None
    """Whether the times were steady at its end."""
    flops: Count | None = None
    """Floating-point operations."""
    operators: Count | None = None
    """Calls of PyTorch's operators."""
    kernels: Count | None = None
    """Launched on the GPU."""
    busy_ms: Amount | None = None
    """Milliseconds in which anything runs on the GPU, from the profiler."""
    top_kernels: list[Kernel] | None = None
    """Those that take the most, from the profiler."""
    phases_ms: dict[str, Amount] | None = Field(None, validation_alias=AliasChoices("phases_ms", "split_ms"))
    """Milliseconds by phase, which formats before 4 call `split_ms`: `data`, `generator_forward`,
    `discriminator_forward`, `discriminator_backward`, `generator_backward`, `optimizers`."""
    peak_allocated_mib: Real | None = None
    """MiB by which the arm alone raises the peak of the GPU's allocator."""
    peak_reserved_mib: Real | None = None
    """The same of what the allocator holds."""
    peak_resident_growth_mib: Real | None = None
    """MiB by which the resident set grows in a process of its own, on a CPU."""
    largest_batch: Positive | None = None
    """Images of the largest batch that fits, if the suite asked."""
    largest_batch_ended_by: str | None = None
    """What forbade a larger one: `memory`, or why else none was tried, the size of the data set say; null where
    it was not recorded."""
    joules_per_1000_images: Amount | None = None
    """By NVIDIA's counter; null without one."""
    local_ms: Milliseconds | None = None
    """Of several processes: milliseconds without the reductions, in all of them at once."""
    reduced_bytes: Count | None = None
    """Of several processes: bytes that each gives to be reduced."""
    predicted_ms: Milliseconds | None = None
    """Of several processes: what [the model](scaling.md) makes of both."""
    allreduce_gb_per_s: Amount | None = None
    """The bus bandwidth that the model was given, in GB a second, measured beside it."""
    allreduce_latency_us: Amount | None = None
    """The latency that the model was given, in microseconds, measured beside it."""
    steps_trained: Count | None = None
    """Steps in all before the grid of generated images was made."""

    @model_validator(mode="after")
    def _is_whole(self) -> "Arm":
        if self.status == "ok" and not self.wall_ms:
            raise ValueError("an arm that is ok has a time of every round in wall_ms")
        for key in ("device_ms", "host_ms"):
            times = getattr(self, key)
            if times and len(times) != len(self.wall_ms):
                raise ValueError(f"{key} has {len(times)} rounds, wall_ms {len(self.wall_ms)}")
        return self


class CaseRow(Measured):
    """A timed case, in one process of its own. A speedup is computed, not stored: the median over the rounds of
    `wall_ms` of a baseline over that of `one_stage`."""

    process: Count = 0
    """Which of the processes that the case was timed in, one after the other; name and process are a row's key."""
    rounds: Count = 0
    """Rounds that were timed."""
    steps_per_round: Count | None = None
    """Steps of every visit to an arm."""
    ended_by: str = ""
    """`target_half_width` (the intervals are narrow enough), `budget_s` or `every arm failed`."""
    order: list[list[Scheme]] | None = None
    """The arms of every round, in the order in which they ran."""
    context: Context | None = None
    """What else the machine did."""
    matmul_flops_per_s: Rate | None = None
    """Of a large matrix product, in the case's precision."""
    real_samples: SamplePath | None = None
    """File of real images beside the grids."""
    arms: dict[Scheme, Arm]
    """By scheme."""

    @property
    def job(self) -> str:
        """The case, and which of its processes."""
        return process_name(self.name, self.process)

    @property
    def processes(self) -> list["CaseRow"]:
        """The rows of the processes that this one speaks of: itself."""
        return [self]

    @property
    def first_stage(self) -> int | None:
        """Processes that were certain to run, where it was looked whether more are needed."""
        return None

    @model_validator(mode="after")
    def _arms_agree(self) -> "CaseRow":
        lengths = {len(arm.wall_ms) for arm in self.arms.values() if arm.status == "ok"}
        if len(lengths) > 1 or 1 in lengths:
            raise ValueError(f"arms that are ok have the same number of rounds, at least 2, not {sorted(lengths)}")
        return self


class Point(Row):
    """One evaluation of a training."""

    images: Count
    """Images seen so far."""
    seconds: Amount
    """Seconds of training so far; evaluations do not count."""
    average: dict[str, Real | None]
    """Metrics of the moving average of G where there is one; null: not finite."""
    raw: dict[str, Real | None]
    """Metrics of G itself; empty where the suite asked for none."""


class QualityArm(AnyArm):
    """One scheme of a training."""

    setting: dict[str, float] | None = None
    """Learning rates and betas that the search has chosen."""
    points: tuple[Point, ...] = ()
    """Its evaluations, in their order; one that failed keeps what it has."""


class Trial(Row):
    """One point of a search."""

    setting: dict[str, float]
    """Learning rates and betas that were tried."""
    value: Real | None = None
    """The metric at the end, the mean over the search's seeds; null for a trial in which one of them has none."""
    by_seed: tuple[Real | None, ...] | None = None
    """The metric at the end by seed; null in formats before 6."""
    reason: str | None = None
    """What ended a trial that failed."""


class Tuned(Row):
    """What a search found for one scheme."""

    trials: list[Trial]
    """In the order in which they ran."""
    setting: dict[str, float] | None = None
    """The best of these settings; null: none has a value."""


class QualityRow(Measured):
    """One seed of one variant of a case, trained and judged, or with a null seed the search for its settings.

    Values of different extractors or numbers of images do not compare, and no report puts them into one table.
    """

    variant: str
    """Its name in the suite."""
    seed: Count | None
    """Null for a search."""
    trial: Count | None = None
    """Which trial of a search of a space this is; null: all of a grid, or no search."""
    metric: str | None = None
    """What was measured; lower is better."""
    extractor: str | None = None
    """Network whose features were compared."""
    weights_sha256: str | None = None
    """Of that network's weights."""
    notes: list[str] | None = None
    """What must be known of the values."""
    num_real: Count | None = None
    """Real images of an evaluation."""
    num_fake: Count | None = None
    """Generated images of an evaluation."""
    arms: dict[Scheme, QualityArm] = Field(default={})
    """By scheme; none of a search."""
    tuned: dict[Scheme, Tuned] | None = None
    """Of a search: what it found, by scheme."""

    @property
    def case_name(self) -> str:
        """The name of its case."""
        return self.name.removesuffix(f" / {self.variant} / {part_name(self.seed, self.trial)}")


AnyRow = CaseRow | QualityRow
