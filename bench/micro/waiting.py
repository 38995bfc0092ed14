"""What it costs how idle threads wait: a suite under each policy of OpenMP, alone and beside a busy process.

`python -m bench.micro.waiting [SUITE] [--busy 1]` runs the suite in fresh processes, the policies in turns, and prints
the seconds from start to report, the milliseconds of a step and the speedup. A thread that spins answers at once, and
takes a core from whoever else has work.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import results
from bench.analysis.speedup import REFERENCE

POLICIES: dict[str, dict[str, str]] = {
    "300,000 spins, libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "10,000 spins": {"GOMP_SPINCOUNT": "10000"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""By name, the environment that makes it: how often a waiting thread looks before it sleeps."""


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """Keep so many processes busy meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds_of(suite: str, policy: dict[str, str], busy: int, parent: Path) -> tuple[float, results.Run]:
    """Run the suite on the CPU under a policy, beside so many busy processes; return its seconds and its results."""
    command = [sys.executable, "-m", "bench", "run", suite, "--device", "cpu"]
    places = ["--results", str(parent / "results"), "--reports", str(parent / "reports")]
    with beside(busy):
        start = time.perf_counter()
        subprocess.run([*command, *places], env=os.environ | policy, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    (folder,) = (parent / "results").glob("*/*")
    return seconds, results.load(folder)


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", default="smoke")
    parser.add_argument("--policy", action="append", choices=POLICIES, help="of these alone; default: all")
    parser.add_argument("--busy", type=int, default=0, help="processes that are busy beside it; default 0")
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    for _ in range(given.repeats):
        for name in given.policy or POLICIES:
            with tempfile.TemporaryDirectory() as parent:
                seconds, run = seconds_of(given.suite, POLICIES[name], given.busy, Path(parent))
            rows = [row for row in run.cases if row.status == "ok"]
            steps = {
                scheme: statistics.geometric_mean(statistics.median(row.arms[scheme].wall_ms) for row in rows)
                for scheme in rows[0].arms
            }
            times = ", ".join(f"{scheme} {ms:.2f} ms ({ms / steps[REFERENCE]:.3f})" for scheme, ms in steps.items())
            print(f"{name}, {given.busy} busy beside it: {seconds:.0f} s; {times}", flush=True)


if __name__ == "__main__":
    main()
