"""The on-disk format of a run, its writer and its reader.

A run is a folder results/<suite>/<UTC stamp>_<machine>_<commit>[-dirty]/ with run.json (what was asked, and where it
ran), cases.jsonl (one line a timed case), quality.jsonl (one line a trained and judged seed of a case), both appended
and flushed, and samples/. A missing number is null, never 0. Format versions:
1  2026-11: first.
2  2026-11: quality.jsonl; of a case, `matmul_flops_per_s`; of an arm, `fallbacks`, `busy_ms`, `top_kernels`.
3  2026-11: of a case and of a seed, `machine` (null: never measured), `node` of the cluster (null: none), `beside`, the
   names of what else ran on that machine meanwhile, and `lost`, why it had to be run again; of a run, `ray`. Of a case,
   `world_size`, and of its arms `local_ms`, `reduced_bytes`, `predicted_ms`, `allreduce_gb_per_s`, `..._latency_us`.
"""

import fcntl
import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.results.writing import append_line, remedy, write_atomically
from osgan.errors import InputError

FORMAT_VERSION = 3
READABLE = (1, 2, 3)
CASES, QUALITY = "cases.jsonl", "quality.jsonl"

Record = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run as read back: its manifest, and one record for each finished case, in the suite's order."""

    path: Path
    manifest: Record
    cases: list[Record]
    remarks: list[str]
    """What reading had to repair or leave out."""
    quality: list[Record] = field(default_factory=list)
    """One record for each finished seed of a case, in the order of their names."""


def create(parent: Path, manifest: Record, stamp: str) -> Path:
    """Make the folder of a new run and write its manifest; never touches a folder that exists."""
    path = new_folder(parent / manifest["suite"]["name"], manifest["machine"], stamp)
    try:
        write_atomically(path / "run.json", json.dumps({"format": FORMAT_VERSION, **manifest}, indent=1) + "\n")
    except OSError as error:
        with suppress(OSError):
            path.rmdir()
        raise InputError(
            f"cannot write results to {path}: {error.strerror}; {remedy(error)} or choose another place with --results"
        ) from None
    return path


def new_folder(parent: Path, machine: Record, stamp: str) -> Path:
    """Make `parent`/<stamp>_<machine>_<commit>[-dirty]; raises InputError if it exists or cannot be made."""
    dirty = "-dirty" if machine["dirty"] else ""
    where = slug(machine["gpu"] or machine["cpu"] or "machine")
    path = parent / f"{stamp}_{where}_{machine['commit'] or 'nocommit'}{dirty}"
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{path} exists: another run of {parent.name} started this second; start again") from None
    except OSError as error:
        raise InputError(
            f"cannot write results to {path}: {error.strerror}; choose another place with --results"
        ) from None
    return path


def append(path: Path, record: Record, name: str = CASES) -> None:
    """Append one finished case, or to QUALITY one finished seed; when this returns it is on the disk."""
    line = json.dumps(_finite(record), separators=(",", ":")) + "\n"
    append_line(path, name, repr(record["name"]), line.encode())


def load(path: Path) -> Run:
    """Read a run; a last line cut short by a kill is left out with a remark. Raises InputError for anything else."""
    manifest = load_manifest(path)
    remarks: list[str] = []
    records = _read(path / CASES, remarks)
    order = {name: index for index, name in enumerate(manifest["cases"])}
    cases = sorted(records, key=lambda record: order.get(record["name"], len(order)))
    quality = sorted(
        _read(path / QUALITY, remarks),
        key=lambda record: (order.get(record["name"].split(" / ")[0], len(order)), record["name"]),
    )
    return Run(path, manifest, cases, remarks, quality)


def _read(file: Path, remarks: list[str]) -> list[Record]:
    records: dict[str, Record] = {}
    lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):  # nothing but a kill leaves a line without its end
                remarks.append(f"{file}: line {number} was cut short; its case counts as not finished")
                continue
            raise InputError(f"{file}: line {number} is not JSON; the file was changed by hand or by a fault") from None
        if record["name"] in records:
            raise InputError(f"{file}: line {number} holds case {record['name']!r} a second time")
        records[record["name"]] = record
    return list(records.values())


def load_manifest(path: Path) -> Record:
    """Read run.json; raises InputError if it is missing, broken or of a format this version does not know."""
    file = path / "run.json"
    manifest = read_json(file, "a run")
    version = manifest.get("format")
    if version not in READABLE:
        known = ", ".join(map(str, READABLE))
        raise InputError(f"{file} has format {version!r}; this version of bench reads formats {known}")
    return manifest


def read_json(file: Path, what: str) -> Record:
    """Read the JSON that makes a folder `what` it is; raises InputError if it is missing or broken."""
    try:
        content: Record = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{file.parent} is not {what}: it has no readable {file.name}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{file} is damaged: it holds {type(content).__name__}, not an object")
    return content


def repair(path: Path) -> bool:
    """Cut half-written last lines off, so that the next record starts on a line of its own."""
    repaired = [_repair(path / name) for name in (CASES, QUALITY)]
    return any(repaired)


def _repair(file: Path) -> bool:
    if not file.exists():
        return False
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole == content:
        return False
    with file.open("r+b") as handle:
        handle.truncate(len(whole))
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run for writing; raises InputError when another process does."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((path / ".lock").open("w"))
        except OSError as error:
            raise InputError(f"{path} cannot be written to ({error.strerror}); start a new run") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{path} is being written by another process; wait for it or start a new run") from None
        yield


def newest(parent: Path, suite: str | None = None) -> Path:
    """Return the run that was started last, of one suite or of any; raises InputError if there is none."""
    runs = sorted(parent.glob(f"{suite or '*'}/*/run.json"), key=lambda file: file.parent.name)
    if not runs:
        raise InputError(f"no run{f' of suite {suite!r}' if suite else ''} in {parent}; start one with `make bench`")
    return runs[-1].parent


def slug(text: str) -> str:
    """Return text fit for a file name."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:120] or "unnamed"


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite is a missing number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
