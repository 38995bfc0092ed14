"""What every row is made of: who measured, when and where, and what an arm says whatever was done with it."""

from typing import Any

from bench.results.manifest import Machine
from bench.results.values import Amount, Count, Moment, Row, SamplePath, Scheme, Status
from bench.suite.cases import Case


class Context(Row):
    """What else the machine did while the rounds of a case were timed."""

    load_before: Amount | None = None
    """Load average of one minute, before."""
    load_after: Amount | None = None
    """The same, after."""
    others_cpu_share: Amount | None = None
    """Share of the processors' time that other processes took."""
    sm_clock_mhz: tuple[Count, Count] | None = None
    """The lowest and the highest clock of the GPU's multiprocessors between rounds."""
    throttling: list[str] | None = None
    """What held the GPU's clocks down; an empty list: nothing."""
    power_limit_watts: Amount | None = None
    """Enforced on the GPU."""


class Kernel(Row):
    """What a step spends in one kernel, from the profiler."""

    name: str
    """As the profiler gives it."""
    ms: Amount
    """Milliseconds a step."""
    calls: Amount
    """Calls a step."""


class AnyArm(Row):
    """What every arm says, timed or trained."""

    status: Status
    """A failed arm does not take its case with it."""
    reason: str | None = None
    """Why it is not `ok`."""
    fallbacks: list[str] | None = None
    """What the engine had to do without."""
    ran_as: Scheme | None = None
    """The scheme that stood in for a one-stage step that is not exact."""
    ran_as_because: str | None = None
    """Why it is not."""
    overrides: dict[str, str | float] | None = None
    """What is this arm's own: UNMATCHED."""
    samples: SamplePath | None = None
    """File of its grid of generated images, from the run's folder."""


class Measured(Row):
    """What every row says."""

    name: str
    """The row's one name: of a case its axes with a space between, of a training the variant and the seed after it."""
    case: Case
    """The point of the matrix: see [suites](suites.md)."""
    status: Status
    """Whether all of it was done."""
    reason: str | None = None
    """Why it is not `ok`."""
    started: Moment | None = None
    """When it began, UTC; null for what never began, and in formats before 4."""
    took_s: Amount | None = None
    """Seconds of all of it."""
    machine: Machine | None = None
    """Where it was measured; null for what was measured nowhere, and in formats before 3: there it is the run's."""
    node: str | None = None
    """Of a cluster, where it ran."""
    beside: list[str] | None = None
    """Names of what else of the run ran on that machine meanwhile."""
    lost: list[str] | None = None
    """Why it had to be run again, once for each time before."""
    refused: Any = None
    """What was found, where it cannot be a row of this kind; `reason` says why. A fault of the program."""

    @property
    def case_name(self) -> str:
        """The name of its case."""
        return self.name

    @property
    def job(self) -> str:
        """The name of what was to be done for it, which no other row of the run has."""
        return self.name
