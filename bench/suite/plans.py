"""The parts of a suite that say how its cases are measured: timing, samples, quality, targets, overrides."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bench.suite.cases import MATRIX_AXES, Case, Exclude, Frozen, Positive
from bench.suite.tune import Tune
from osgan.errors import unknown
from osgan.names import SCHEME_NAMES

Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Beta, Beta]

PREHEAT_S = {"cuda": 5.0, "cpu": 1.0}
ROUND_MS = {"cuda": 50.0, "cpu": 5.0}


class Settings(Frozen):
    """What an override sets in the place of the case's and the suite's own."""

    architecture: str | None = None
    """Networks; null: the case's."""
    generator_lr: Positive | None = None
    """G's learning rate; null: the suite's."""
    discriminator_lr: Positive | None = None
    """D's learning rate; null: the suite's."""
    schedule: str | None = None
    """Of the learning rates, in quality runs; as `osgan.training.recipe.Recipe` writes it."""


class Override(Exclude):
    """Settings of one scheme's own, in the cases that match on every axis given: the arms are then UNMATCHED.

    For other people's configurations only, which are to be reproduced as they are; every table marks such a case.
    """

    scheme: str
    """The scheme that is set apart."""
    set: Settings
    """What it gets."""

    def applies(self, case: Case, scheme: str) -> bool:
        """Whether it sets anything for this scheme of this case."""
        everywhere = all(getattr(self, axis) is None for axis in MATRIX_AXES)
        return scheme == self.scheme and (everywhere or self.matches(case))


class Among(Exclude):
    """The cases that a target speaks of: those that match on every axis given."""


class Target(Frozen):
    """What the suite wants a run to show, stated beforehand.

    `speedup` and `ceiling` are geometric means of one_stage against a baseline, the latter over the FLOP ceiling;
    `matmul_share` and `idle_share` are of the one_stage step, and every case has to meet them.
    """

    what: Literal["speedup", "ceiling", "matmul_share", "idle_share"]
    """The figure."""
    baseline: str | None = None
    """Scheme that one_stage is compared with; for `speedup` and `ceiling`."""
    at_least: Positive | None = None
    """For `speedup` and `matmul_share`; of `ceiling` it is 1."""
    at_most: Positive | None = None
    """For `idle_share`."""
    among: Among | None = None
    """Of these cases only; of all without it."""

    @model_validator(mode="after")
    def _is_whole(self) -> "Target":
        against = self.what in ("speedup", "ceiling")
        limit = {"speedup": "at_least", "matmul_share": "at_least", "idle_share": "at_most"}.get(self.what)
        for key, needed in (("baseline", against), ("at_least", limit == "at_least"), ("at_most", limit == "at_most")):
            if (getattr(self, key) is not None) != needed:
                raise ValueError(f"a target of kind {self.what!r} {'needs' if needed else 'takes no'} {key!r}")
        if self.baseline is not None and self.baseline not in SCHEME_NAMES:
            raise unknown("baseline", self.baseline, SCHEME_NAMES)
        return self

    def speaks_of(self, case: Case) -> bool:
        """Whether a case is one of the target's."""
        return self.among is None or all(getattr(case, axis) in accepted for axis, accepted in self.among.given.items())


class Adam(Frozen):
    """Adam for both players of every arm, and how often each is updated."""

    generator_lr: Positive = 2e-4
    """G's learning rate."""
    discriminator_lr: Positive = 2e-4
    """D's learning rate."""
    betas: Betas = (0.5, 0.999)
    """Of both moments."""
    n_critic: Annotated[int, Field(ge=1)] = 1
    """Updates of D for one of G, each on a batch of its own."""
    generator_clip: Positive | None = None
    """The largest norm of G's gradient that its optimizer is given; null for any."""
    discriminator_clip: Positive | None = None
    """The same of D's."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Equal parts of a batch that go through the networks one after the other; their gradients add up."""
    gradient_normalization: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the average whose root divides what arrives at the generated images; null for none."""


class Timing(Frozen):
    """When a case has been timed enough: rounds within a process, and processes."""

    target_half_width: Positive = 0.02
    """Stop when the 95 % interval of every ratio is within this of its estimate, relatively: in a process, its rounds;
    over the processes, the case."""
    budget_s: Positive = 60.0
    """Stop when the timed rounds of a case have taken this long, in all its processes; each may take an equal share."""
    min_rounds: Annotated[int, Field(ge=5)] = 10
    """Stop at no fewer rounds in a process."""
    round_ms: Positive | None = None
    """The fastest arm's visit in a round lasts at least this long: it sets the steps of a visit, the same for every
    arm; null: 50 on a GPU, whose queue has to fill, 5 on a CPU, so that what slows it down meets the arms alike."""
    warmup_s: Positive = 3.0
    """Most seconds of untimed warm-up an arm."""
    preheat_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Seconds that the arms run in turns, untimed, before a process's first round; null: 5 on a GPU, 1 on a CPU."""
    replicates: Annotated[int, Field(ge=1)] = 3
    """Fresh processes a case; the interval is over them; 1 gives no verdict on the claim."""
    max_replicates: int | None = None
    """Run more processes, up to so many, while an interval is wider than the target; null: only `replicates`."""
    time_limit_s: Positive = 900.0
    """A case that takes longer, everything counted, is ended and recorded as failed."""

    @model_validator(mode="after")
    def _has_a_first_stage(self) -> "Timing":
        if self.most_replicates < self.replicates:
            raise ValueError(
                f"'max_replicates' is {self.max_replicates}, below 'replicates', which is {self.replicates}: raise the "
                "former or leave it out"
            )
        if self.most_replicates > self.replicates == 1:
            raise ValueError(
                "'max_replicates' above 1 needs 'replicates' of at least 2: one process alone does not show how far "
                "processes differ"
            )
        return self

    @property
    def most_replicates(self) -> int:
        """Most processes of a case."""
        return self.replicates if self.max_replicates is None else self.max_replicates

    @property
    def process_budget_s(self) -> float:
        """Seconds of timed rounds that each process may take, so that the most processes keep to the case's budget."""
        return self.budget_s / self.most_replicates

    def round_ms_on(self, device_kind: str) -> float:
        """Return the least milliseconds of a visit on a kind of device: `cuda` or `cpu`."""
        return _on(device_kind, self.round_ms, ROUND_MS)

    def preheat_on(self, device_kind: str) -> float:
        """Return the seconds of pre-heating on a kind of device: `cuda` or `cpu`."""
        return _on(device_kind, self.preheat_s, PREHEAT_S)


def _on(device_kind: str, given: float | None, usual: dict[str, float]) -> float:
    """Return what is given, or else what is usual on a kind of device; what is no GPU is as a CPU."""
    return given if given is not None else usual["cuda" if device_kind == "cuda" else "cpu"]


class Memory(Frozen):
    """What is measured of memory beside each arm's peak."""

    largest_batch: bool = False
    """Search the largest batch that fits, per scheme; on a GPU only."""


class Samples(Frozen):
    """Grids of generated images, the same latents for every arm."""

    steps: Annotated[int, Field(ge=0)] = 0
    """Train every arm for this many steps in all before its grid is made; the timed steps count."""
    images: Annotated[int, Field(ge=1, le=1024)] = 64
    """Images of a grid."""


class Variant(Frozen):
    """A cure for what simultaneous descent loses, given to every scheme alike: what is set overrides the case's."""

    optimizer: str = "adam"
    """`adam` or `optimistic_adam`."""
    regularizers: str = ""
    """Added to the loss, written as there: `r1=0.1`."""
    augmentation: str | None = None
    """What D sees images through; null: the case's."""
    generator_lr: Positive | None = None
    """G's learning rate; null: the suite's."""
    discriminator_lr: Positive | None = None
    """D's learning rate; null: the suite's, or what `tune` finds."""
    betas: Betas | None = None
    """Of both moments; null: the suite's, or what `tune` finds."""
    tuned: bool = True
    """Whether every arm takes the setting that `tune` finds for it."""
    setting_of: str | None = None
    """Another variant, whose searches in all cases together set this one's: one setting for all; null: its own."""

    @property
    def steps_as_timed(self) -> bool:
        """Whether a step does the work of the case's own, which is what is timed."""
        return self.optimizer == "adam" and not self.regularizers and self.augmentation is None


class FirstLevel(Frozen):
    """The value by which arms are compared, stated beforehand: a multiple of what one scheme ends with."""

    factor: Annotated[float, Field(ge=1)] = 1.25
    """In units of the median over the seeds of that scheme's final value."""
    baseline: str = "two_stage"
    """The scheme."""
    variant: str | None = None
    """The variant that it was trained with; null: for every variant its own."""


class Quality(Frozen):
    """Every arm trained for the same number of images, judged on the way."""

    schemes: tuple[str, ...] | None = Field(None, min_length=1)
    """The arms that are trained; null: all of the suite's."""
    images: Annotated[int, Field(gt=0)]
    """Real images that every arm sees."""
    evaluate_every: Annotated[int, Field(gt=0)]
    """Images from one evaluation to the next."""
    seeds: Annotated[int, Field(ge=1)] = 3
    """Trainings of every arm."""
    metric: Literal["fd", "kd"] = "fd"
    """Frechet distance, or kernel distance; lower is better."""
    extractor: str = "efficientnet-lite0"
    """Network whose features are compared."""
    generated_images: Annotated[int, Field(ge=4)] = 5_000
    """Generated images of an evaluation."""
    real_images: Annotated[int, Field(ge=4)] = 10_000
    """Real images that they are compared with, at most as many as there are."""
    judge_raw: bool = True
    """Whether G itself is judged beside its moving average, which doubles the cost."""
    standing_batches: Annotated[int, Field(ge=0)] = 0
    """Batches from which the average's BatchNorm statistics are measured before it is judged; 0 for those of G."""
    ema_half_life: Annotated[int, Field(ge=0)] = 10_000
    """Of the moving average of G's weights, in images; 0 for none."""
    schedule: str = "constant"
    """Of the learning rates, as `osgan.training.recipe.Recipe` writes it."""
    penalty_schedule: str = "constant"
    """Of the weights of penalties, written alike."""
    level: FirstLevel | None = None
    """The value by which arms are compared; null: the first of `targets`."""
    targets: tuple[Annotated[float, Field(ge=1)], ...] = (1.0, 1.25, 1.5, 2.0)
    """Values to reach, in units of the final value of the best two-stage baseline."""
    levels: tuple[Positive, ...] = ()
    """Values to reach as they stand; for distillation, the student's error in percent."""
    variants: dict[str, Variant] = Field(default_factory=lambda: {"plain": Variant()}, min_length=1)
    """Cures by name; every scheme is trained with each."""
    tune: Tune | None = None
    """Search of learning rates and betas, the same for every arm; null for none."""
    time_limit_s: Positive = 3600.0
    """A seed of a case that takes longer, all its arms together, is ended and recorded as failed."""

    def searches(self, variant: str) -> bool:
        """Whether a variant has a search of its own."""
        asked = self.variants[variant]
        return self.tune is not None and asked.tuned and asked.setting_of is None


def with_regularizers(loss: str, regularizers: str) -> str:
    """Return the loss with more regularizers than it has."""
    return f"{loss}+{regularizers}" if regularizers else loss
