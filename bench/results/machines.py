"""Which machine a row was measured on: results of different machines are never paired or pooled."""

from dataclasses import replace
from typing import Any

from bench.results.manifest import Machine
from bench.results.rows import AnyRow
from bench.results.store import Run
from osgan.errors import InputError

IDENTITY = ("device", "gpu", "cpu", "threads", "libraries")
"""What makes a machine another one, a missing value too."""
SETTINGS = ("driver", "cudnn", "gpu_power_limit_watts", "gpu_mig", "gpu_ecc", "cpu_governor", "environment")
"""What moves a number on the same machine; compared where both have it, as older formats do not have all of them."""
OF_NO_MACHINE = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""They tell no machines apart: scikit-learn sets the first two, and `threads` says what the others come to."""


def identity(machine: Machine) -> dict[str, Any]:
    """Return what tells machines apart and is known; of the device its kind: cuda:0 and cuda:1 are one."""
    found = {key: getattr(machine, key) for key in IDENTITY} | {"device": machine.device.partition(":")[0]}
    settings = {key: getattr(machine, key) for key in SETTINGS if getattr(machine, key) is not None}
    if machine.environment is not None:  # that a variable is not set says nothing of a format that does not ask for it
        settings["environment"] = {
            key: value for key, value in machine.environment.items() if value is not None and key not in OF_NO_MACHINE
        }
    return found | settings


def differences(one: Machine, other: Machine) -> dict[str, tuple[Any, Any]]:
    """Return both values of everything that makes two machines different; empty for what may be pooled."""
    here, there = identity(one), identity(other)
    return {key: (here[key], there[key]) for key in here if key in there and here[key] != there[key]}


def by_machine(run: Run) -> list[Run]:
    """Split a run by the machines that its rows were measured on, in the order of their first rows.

    Nodes that do not differ are one. Each part has its machine's rows, that machine in its manifest, and of the cases
    those that have a row; what has not run at all, and the remarks, only the whole run knows. Rows that were measured
    nowhere go to the first machine. [run] if it is of one machine.
    """
    found: list[Machine] = []
    for row in run.rows:
        if row.machine and all(differences(row.machine, other) for other in found):
            found.append(row.machine)
    if len(found) < 2:
        same = not found or not differences(found[0], run.manifest.machine)
        return [run if same else replace(run, manifest=run.manifest.model_copy(update={"machine": found[0]}))]

    def home(row: AnyRow) -> Machine:
        machine = row.machine or found[0]
        return next(other for other in found if not differences(machine, other))

    def part(machine: Machine) -> Run:
        cases = [row for row in run.cases if home(row) is machine]
        quality = [row for row in run.quality if home(row) is machine]
        names = {row.case_name for row in (*cases, *quality)}
        asked = [name for name in run.manifest.cases if name in names]
        manifest = run.manifest.model_copy(update={"machine": machine, "cases": asked})
        return Run(run.path, manifest, cases, [], quality)

    return [part(machine) for machine in found]


def check_one_machine(run: Run) -> None:
    """Raise InputError for a run of several machines, before anything of it is paired or pooled."""
    parts = by_machine(run)
    if len(parts) > 1:
        machines = [part.manifest.machine for part in parts]
        names = "; ".join(f"{m.gpu or m.cpu}, {m.threads} threads" for m in machines)
        keys = dict.fromkeys(key for other in machines[1:] for key in differences(machines[0], other))
        raise InputError(
            f"{run.path} was measured on {len(machines)} machines ({names}; they differ in {', '.join(keys)}); results "
            "of different machines are never pooled: take the parts that results.by_machine gives"
        )
