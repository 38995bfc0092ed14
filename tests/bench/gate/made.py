"""Made-up runs of the gate's suite."""

from pathlib import Path

import numpy as np

from tests.bench.rows import case_row, machine, run_of

SPEEDUPS = {"two_stage": 1.4, "two_stage_reused_frozen": 1.2, "control": 1.0, "one_stage": 1.0}
HELD = [scheme for scheme in SPEEDUPS if scheme != "control"]
WORK = {"flops": 1000, "operators": 400, "kernels": 300}
EVEN = np.ones(20)


def record(name="a", *, slower=1.0, noise=None, control=1.0, **changes):
    """Return a case with one-stage slowed down by a factor; `noise` gives factors a round to each scheme."""
    noise = noise or {}
    even = np.ones(len(next(iter(noise.values()), EVEN)))
    arms = {
        scheme: {
            "status": "ok",
            "wall_ms": [
                float(ms)
                for ms in factor
                * (slower if scheme in ("one_stage", "control") else 1)
                * (control if scheme == "control" else 1)
                * noise.get(scheme, even)
            ],
            **WORK,
        }
        for scheme, factor in SPEEDUPS.items()
    }
    arms["one_stage"] |= changes
    return case_row(name, arms)


def run(
    *records, names=None, torch_version="2.15.0", cpu="Some CPU", commit="abc", started="2026-11-22T00:00:00Z", **more
):
    """Return a run of these cases."""
    on = machine(cpu=cpu, libraries={"torch": torch_version}, commit=commit, **more)
    suite = {"name": "regress", "schemes": list(SPEEDUPS)}
    names = names or [record.name for record in records]
    return run_of(*records, path=Path("results/regress/x"), cases=names, on=on, suite=suite, started=started)
