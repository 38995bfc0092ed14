"""Made-up runs of the gate's suite."""

from pathlib import Path

import numpy as np

from bench.results.store import Run

SPEEDUPS = {"two_stage": 1.4, "two_stage_reused_frozen": 1.2, "control": 1.0, "one_stage": 1.0}
HELD = [scheme for scheme in SPEEDUPS if scheme != "control"]
WORK = {"flops": 1000, "operators": 400, "kernels": 300}
EVEN = np.ones(20)


def record(name="a", *, slower=1.0, noise=None, control=1.0, **changes):
    """Return a case with one-stage slowed down by a factor; `noise` gives factors a round to each scheme."""
    arms = {
        scheme: {
            "status": "ok",
            "reason": None,
            "wall_ms": [
                float(ms)
                for ms in factor
                * (slower if scheme in ("one_stage", "control") else 1)
                * (control if scheme == "control" else 1)
                * (noise or {}).get(scheme, EVEN)
            ],
            **WORK,
        }
        for scheme, factor in SPEEDUPS.items()
    }
    arms["one_stage"] |= changes
    return {"name": name, "case": {}, "status": "ok", "reason": None, "arms": arms}


def manifest(names, *, torch_version="2.15.0", cpu="Some CPU", commit="abc", started="2026-11-22T00:00:00+00:00"):
    """Return what a run's run.json holds."""
    machine = {
        "device": "cpu",
        "gpu": None,
        "cpu": cpu,
        "threads": 2,
        "libraries": {"torch": torch_version},
        "commit": commit,
        "dirty": False,
    }
    suite = {"name": "regress", "schemes": list(SPEEDUPS)}
    return {"suite": suite, "cases": list(names), "machine": machine, "started": started}


def run(*records, names=None, **facts):
    """Return a run of these cases."""
    made = manifest(names or [record["name"] for record in records], **facts)
    return Run(Path("results/regress/x"), made, list(records), [])
