"""Which machine a row was measured on: results of different machines are never paired or pooled."""

from dataclasses import replace
from typing import Any

from bench.results.store import Record, Run
from osgan.errors import InputError

IDENTITY = ("device", "gpu", "cpu", "threads", "libraries")
"""What makes a machine another one: results that differ in any of these are never paired or pooled."""


def identity(described: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a description that tells machines apart; of the device its kind: cuda:0 and cuda:1 are one."""
    return {key: described[key] for key in IDENTITY} | {"device": described["device"].partition(":")[0]}


def by_machine(run: Run) -> list[Run]:
    """Split a run by the machines that its rows were measured on, in the order of their first rows.

    Machines are told apart by `machine.IDENTITY`: nodes that agree on it are one. Each part has its machine's rows,
    that machine in its manifest, and of the cases those that have a row; what has not run at all, and the remarks, only
    the whole run knows. Rows that were measured nowhere go to the first machine. [run] if it is of one machine.
    """
    rows = [*run.cases, *run.quality]
    found: list[Record] = []
    for record in rows:
        described = record.get("machine")
        if described and not any(identity(described) == identity(other) for other in found):
            found.append(described)
    if len(found) < 2:
        same = not found or identity(found[0]) == identity(run.manifest["machine"])
        return [run if same else replace(run, manifest=run.manifest | {"machine": found[0]})]

    def part(described: Record) -> Run:
        def of_it(record: Record) -> bool:
            return identity(record.get("machine") or found[0]) == identity(described)

        names = {record["name"].split(" / ")[0] for record in rows if of_it(record)}
        manifest = run.manifest | {"machine": described, "cases": [n for n in run.manifest["cases"] if n in names]}
        cases, quality = ([r for r in records if of_it(r)] for records in (run.cases, run.quality))
        return Run(run.path, manifest, cases, [], quality)

    return [part(described) for described in found]


def check_one_machine(run: Run) -> None:
    """Raise InputError for a run of several machines, before anything of it is paired or pooled."""
    parts = by_machine(run)
    if len(parts) > 1:
        machines = [part.manifest["machine"] for part in parts]
        names = "; ".join(f"{m['gpu'] or m['cpu']}, {m['threads']} threads" for m in machines)
        raise InputError(
            f"{run.path} was measured on {len(machines)} machines ({names}); results of different machines are never "
            "pooled: take the parts that results.by_machine gives"
        )
