"""Whether 95 % is 95 %: a run of A against A, read as repeats of a few processes each.

`python -m bench.micro.coverage RUN [--processes 3]` says in how many repeats the interval holds 1, in how many it finds
a planted 3 %, and how far processes scatter. Pure functions of the run's rows: `suites/control.yaml` measures them.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import results
from bench.analysis.inference import smallest_detectable
from bench.analysis.processes import Replicate, process_ratio, ratio_over_processes
from bench.analysis.speedup import REFERENCE
from bench.suite.model import CONTROL

PLANTED = 1.03


@dataclass(frozen=True)
class Coverage:
    """What the repeats of one case say."""

    repeats: int
    held: int
    """Repeats whose interval holds 1."""
    found: int
    """Repeats whose interval, with the control slowed down by the planted share, lies above 1."""
    scatter: float
    """Standard deviation of the processes' log ratios."""
    detectable: float
    """The smallest difference that is found in 90 % of repeats, from that scatter."""


def coverage_of(replicates: Sequence[Replicate], processes: int) -> Coverage:
    """Cut the replicates into repeats of so many processes, in the order measured; what is left over is not used."""
    whole = len(replicates) // processes * processes
    repeats = [replicates[start : start + processes] for start in range(0, whole, processes)]
    plain = [ratio_over_processes(group) for group in repeats]
    planted = [ratio_over_processes([(np.asarray(a) * PLANTED, b) for a, b in group]) for group in repeats]
    scatter = float(np.std([process_ratio(*replicate) for replicate in replicates], ddof=1))
    return Coverage(
        len(repeats),
        sum(interval.low <= 1 <= interval.high for interval in plain),
        sum(interval.low > 1 for interval in planted),
        scatter,
        smallest_detectable(scatter, processes),
    )


def main() -> None:
    """Print a line for each case of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run whose schemes are one_stage and control")
    parser.add_argument("--processes", type=int, default=3, help="of a repeat; default 3")
    given = parser.parse_args()
    for name, rows in results.load(given.run).by_case().items():
        times = [
            (row.arms[CONTROL].wall_ms, row.arms[REFERENCE].wall_ms)
            for row in rows
            if row.status == "ok" and {CONTROL, REFERENCE} <= row.arms.keys()
        ]
        found = coverage_of(times, given.processes)
        repeats = f"{found.repeats} repeats of {given.processes} processes"
        print(f"{name}: {repeats}: the 95 % interval holds 1 in {found.held}, finds a planted 3 % in {found.found};")
        print(f"  processes scatter by {found.scatter:.2%}: {found.detectable:.1%} is found in 90 % of repeats")


if __name__ == "__main__":
    main()
