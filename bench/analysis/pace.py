"""How long a step of an arm takes, for a training's images to become seconds.

Where the suite also timed the case, a step takes what its interleaved rounds say: neighbours, and whatever else the
machine did in the hours of a training, do not blur it. Else it takes what the trainings' own clocks say.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.processes import ratio_over_processes
from bench.analysis.speedup import replicates
from bench.analysis.statistics import Interval, seed_ratio_interval
from bench.analysis.trained import Trained
from bench.results import CaseRow


@dataclass(frozen=True)
class Pace:
    """Seconds an image of every scheme of a case, and their ratios."""

    row: CaseRow | None
    """The timed case; None: the trainings' own clocks."""
    arms: Mapping[str, Sequence[Trained]]
    batch_size: int

    @property
    def timed(self) -> bool:
        """Whether a step was timed in interleaved rounds."""
        return self.row is not None

    def seconds_an_image(self, scheme: str) -> float | None:
        """Return the seconds of training for a real image; None for a scheme without."""
        if self.row is not None:
            arms = [row.arms[scheme] for row in self.row.processes if scheme in row.arms]
            known = [statistics.median(arm.wall_ms) for arm in arms if arm.wall_ms]
            return statistics.fmean(known) / 1e3 / self.batch_size if known else None
        found = [rate for run in self.arms.get(scheme, ()) if (rate := seconds_an_image(run))]
        return statistics.median(found) if found else None

    def ratio(self, scheme: str, other: str) -> Interval | None:
        """Return the time of a scheme's image over that of another's."""
        if self.row is not None:
            return ratio_over_processes(replicates(self.row, scheme, of=other), first_stage=self.row.first_stage)
        theirs = {run.seed: seconds_an_image(run) for run in self.arms.get(other, ())}
        pairs = [(seconds_an_image(run), theirs.get(run.seed)) for run in self.arms.get(scheme, ())]
        known = [(a, b) for a, b in pairs if a and b]
        return seed_ratio_interval([a for a, _ in known], [b for _, b in known])


def seconds_an_image(run: Trained) -> float | None:
    """Return the wall-clock seconds of a training over its images."""
    return run.seconds[-1] / run.images[-1] if run.images and run.seconds[-1] else None


def pace_of(row: CaseRow | None, arms: Mapping[str, Sequence[Trained]], batch_size: int) -> Pace:
    """Return the pace of a case's schemes: as timed, where each of them was."""
    whole = row is not None and all(scheme in row.arms and row.arms[scheme].status == "ok" for scheme in arms)
    return Pace(row if whole else None, arms, batch_size)
