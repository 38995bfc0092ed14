"""The on-disk format of a run, its writer and its reader.

A run is a folder results/<suite>/<UTC stamp>_<machine>_<commit>[-dirty]/ with run.json (what was asked, and where it
ran), cases.jsonl (one line a timed case), quality.jsonl (one line a trained and judged seed of a case), both appended
and flushed, and samples/. A missing number is null, never 0. Format versions:
1  2026-11: first.
2  2026-11: quality.jsonl; of a case, `matmul_flops_per_s`; of an arm, `fallbacks`, `busy_ms`, `top_kernels`.
3  2026-11: of a case and of a seed, `machine` (null: never measured), `node` of the cluster (null: none), `beside`, the
   names of what else ran on that machine meanwhile, and `lost`, why it had to be run again; of a run, `ray`. Of a case,
   `world_size`, and of its arms `local_ms`, `reduced_bytes`, `predicted_ms`, `allreduce_gb_per_s`, `..._latency_us`.
4  2026-11: of every row `started`; of a case `process`, and a case may have several rows that differ in it; of a
   machine `environment`, `cpu_governor`, `gpu_mig`, `gpu_ecc`; of an arm `largest_batch_ended_by`, and `phases_ms` for
   what was `split_ms`. Rows are checked (`bench.results.rows`) and have every key of the format; `refused` holds what
   could not be a row.
5  2026-11: of a case `augmentation` (before: none); of the suite's optimizer `generator_clip`, `discriminator_clip`,
   `accumulate`, `gradient_normalization`; of its quality `schedule`, `penalty_schedule`, a variant's `augmentation`.
6  2026-11: a search may be of a space, with a row a trial: of a training `trial`, of a trial `by_seed`; of the suite's
   quality `schemes`, `level`, `judge_raw`, `standing_batches`, of a variant `betas`, `tuned`, `setting_of`, of its
   `tune` `space`, `trials`, `seeds`; `raw` of an evaluation may be empty.
"""

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from bench.results.checks import explained
from bench.results.files import plain_files
from bench.results.manifest import Machine, Manifest
from bench.results.rows import AnyRow, CaseRow, QualityRow
from bench.results.timed import TimedCase, timed_case
from bench.results.writing import append_line, remedy, write_atomically
from osgan.errors import InputError

FORMAT_VERSION = 6
READABLE = (1, 2, 3, 4, 5, 6)
CASES, QUALITY = "cases.jsonl", "quality.jsonl"
LONGEST_SLUG = 120

RowT = TypeVar("RowT", CaseRow, QualityRow)


@dataclass(frozen=True)
class Run:
    """A run as read back: its manifest, and a row for each finished case and process, in the suite's order."""

    path: Path
    manifest: Manifest
    cases: list[CaseRow]
    remarks: list[str]
    """What reading had to repair or leave out."""
    quality: list[QualityRow] = field(default_factory=list)
    """A row for each finished seed of a case, in the order of their names."""

    @property
    def rows(self) -> list[AnyRow]:
        """Every row of both files."""
        return [*self.cases, *self.quality]

    @cached_property
    def timed(self) -> list[TimedCase]:
        """Every timed case, over all its processes."""
        plan = self.manifest.suite.timing or {}
        certain = plan.get("replicates")
        return [timed_case(rows, certain) for rows in self.by_case().values()]

    def by_case(self) -> dict[str, list[CaseRow]]:
        """Return the rows of every timed case by its name, a row for each process that it was timed in."""
        found: dict[str, list[CaseRow]] = {}
        for row in self.cases:
            found.setdefault(row.name, []).append(row)
        return found


def create(parent: Path, manifest: Manifest, stamp: str) -> Path:
    """Make the folder of a new run and write its manifest; never touches a folder that exists."""
    path = new_folder(parent / manifest.suite.name, manifest.machine, stamp)
    try:
        write_atomically(path / "run.json", manifest.model_dump_json(indent=1) + "\n")
    except OSError as error:
        with suppress(OSError):
            path.rmdir()
        raise InputError(
            f"cannot write results to {path}: {error.strerror}; {remedy(error)} or choose another place with --results"
        ) from None
    return path


def new_folder(parent: Path, machine: Machine, stamp: str) -> Path:
    """Make `parent`/<stamp>_<machine>_<commit>[-dirty]; raises InputError if it exists or cannot be made."""
    dirty = "-dirty" if machine.dirty else ""
    path = parent / f"{stamp}_{slug(machine.gpu or machine.cpu or 'machine')}_{machine.commit or 'nocommit'}{dirty}"
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{path} exists: another run of {parent.name} started this second; start again") from None
    except OSError as error:
        raise InputError(
            f"cannot write results to {path}: {error.strerror}; choose another place with --results"
        ) from None
    return path


def append(path: Path, row: AnyRow) -> None:
    """Append a finished case or a finished seed to its file; when this returns it is on the disk."""
    name = CASES if isinstance(row, CaseRow) else QUALITY
    append_line(path, name, repr(row.name), f"{row.model_dump_json()}\n".encode())


def load(path: Path) -> Run:
    """Read a run. A line that is no row, or of a row that is there already, is left out with a remark.

    Raises InputError for a manifest that cannot be one, and for what cannot be read at all.
    """
    manifest = load_manifest(path)
    order = {name: index for index, name in enumerate(manifest.cases)}
    cases, of_cases = _read(path / CASES, CaseRow)
    quality, of_quality = _read(path / QUALITY, QualityRow)
    cases.sort(key=lambda row: (order.get(row.name, len(order)), row.process))
    quality.sort(key=lambda row: (order.get(row.case_name, len(order)), row.name))
    links = [f"{path / name}: is no plain file; a report leaves it out" for name in plain_files(path)[1]]
    return Run(path, manifest, cases, [*of_cases, *of_quality, *links], quality)


def _read(file: Path, kind: type[RowT]) -> tuple[list[RowT], list[str]]:
    """Return the rows of a file, and a remark for each line that gave none."""
    rows: dict[tuple[str, int], RowT] = {}
    remarks = []
    lines = _content(file).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = kind.model_validate_json(line, strict=True, extra="allow")
        except ValidationError as error:
            cut = number == len(lines) and error.errors()[0]["type"] == "json_invalid"  # a kill leaves no line's end
            why = "was cut short" if cut else f"is no row: {explained(error)}"
            remarks.append(f"{file}: line {number} {why}; its case counts as not finished")
            continue
        key = row.name, row.process if isinstance(row, CaseRow) else 0
        if key in rows:
            remarks.append(f"{file}: line {number} holds {row.name!r} a second time; the first is kept")
        rows.setdefault(key, row)
    return list(rows.values()), remarks


def _content(file: Path) -> bytes:
    if not file.exists():
        return b""
    if not file.is_file():
        raise InputError(f"{file} is no file; put the run's own there")
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


def load_manifest(path: Path) -> Manifest:
    """Read run.json; raises InputError if it is missing, broken or of a format this version does not know."""
    file = path / "run.json"
    version = read_json(file, "a run").get("format")
    if version not in READABLE or isinstance(version, bool):
        known = ", ".join(map(str, READABLE))
        raise InputError(f"{file} has format {version!r}; this version of bench reads formats {known}")
    try:
        return Manifest.model_validate_json(file.read_bytes(), strict=True, extra="allow")
    except ValidationError as error:
        raise InputError(f"{file} is damaged: {explained(error)}") from None


def read_json(file: Path, what: str) -> dict[str, Any]:
    """Read the JSON that makes a folder `what` it is; raises InputError if it is missing or broken."""
    if not file.is_file():
        raise InputError(f"{file.parent} is not {what}: it has no readable {file.name}")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{file.parent} is not {what}: it has no readable {file.name}") from None
    except RecursionError:
        raise InputError(f"{file} is not JSON of a run: it is nested too deeply") from None
    except ValueError as error:
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


def slug(text: str, *, unique: bool = False) -> str:
    """Return text fit for a file name, of 120 characters at most; a name that was cut ends in a digest of the text.

    Two texts may have one slug unless it is to be `unique`: then a digest also follows where letters were replaced.
    """
    plain = re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.") or "unnamed"
    if len(plain) <= LONGEST_SLUG and (plain == text or not unique):
        return plain
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain[: LONGEST_SLUG - 9]}-{digest}"
