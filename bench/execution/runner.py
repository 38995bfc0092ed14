"""Runs a suite: a process a case, progress, resume, failures recorded as results.

The runner itself never touches the device while a case runs. What is finished is on the disk before anything else is
done. Where the jobs run is the executor's to say: here one after the other, or in `ray_driver` on many machines.
"""

from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from bench import machine, results
from bench.analysis.tuning import chosen_settings
from bench.execution import worker
from bench.execution.budget import Piece, PieceOver
from bench.execution.perform import AnyJob, perform
from bench.execution.replicates import processes_needed
from bench.suite import Suite, select, validate
from bench.suite.cases import Case
from bench.suite.jobs import Job, JobKey, QualityJob, job_keys, job_name, searches_of
from osgan import data, nets
from osgan.distill import split as distillation
from osgan.errors import InputError, MissingDataError

ShowOf = Callable[[str, str, float], None]
"""What is shown of the job of a name."""
ALONE: results.Found = {"node": None, "beside": []}
"""Where a job ran that ran on no cluster."""
MEMORY_S = 4.0
"""About how long the process takes that measures an arm's memory on a CPU, once a case."""
Finished = Generator[tuple[AnyJob, results.Found], None, None]
Execute = Callable[[list[AnyJob], Mapping[str, results.AnyRow], ShowOf], Finished]
"""Does jobs and yields what each found, its samples in place, as it is finished; also given what is done."""


def preflight(cases: list[Case], root: str | None, n_critic: int = 1) -> dict[str, str]:
    """Load every data set once, on the CPU, so that what is wrong with one is said before anything runs.

    Returns why the data set of a case is not there, by the data set's name. Raises InputError for what cannot be right
    on any machine: a name that does not exist, a batch larger than the set.
    """
    absent: dict[str, str] = {}
    needed = {(case.dataset, _resolution(case)) for case in cases if case.game is None}
    for name, resolution in sorted(needed):
        try:
            dataset = data.load(name, resolution=resolution, device="cpu", root=root)
        except MissingDataError as error:
            absent[name] = str(error)
            continue
        for case in cases:
            if case.dataset == name:
                dataset.batches(case.batch_size * case.world_size * (n_critic if case.is_gan else 1), seed=0)
    return absent


def _resolution(case: Case) -> int:
    return distillation.RESOLUTION if case.distill else nets.resolution_of(case.architecture)


def start(
    suite: Suite,
    device: torch.device,
    root: str | None,
    parent: Path,
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    ray: results.Found | None = None,
) -> Path:
    """Make the folder of a new run of the cases selected; `ray` describes a cluster, whose nodes may have more data."""
    cases = select(suite.cases(), only, exclude)
    absent = preflight(cases, root, suite.optimizer.n_critic)
    if ray is not None:
        absent = {}
    if all(case.dataset in absent for case in cases):
        raise InputError(f"no case can run: {'; '.join(absent.values())}")
    now = datetime.now(UTC)
    manifest = results.Manifest.model_validate(
        {
            "format": results.FORMAT_VERSION,
            "suite": suite.model_dump(mode="json"),
            "selection": {"only": list(only), "exclude": list(exclude)},
            "cases": [case.name for case in cases],
            "machine": machine.describe(_present(device)),
            "data": root,
            "started": now.isoformat(timespec="seconds"),
            "ray": ray,
        }
    )
    path = results.create(parent, manifest, now.strftime("%Y%m%dT%H%M%SZ"))
    for case in cases:
        if case.dataset in absent:
            for job in _jobs(suite, [case], device, root, path):
                if not isinstance(job, Job) or job.process == 0:
                    results.append(path, results.row_of(worker.failed(job, absent[case.dataset], "skipped") | ALONE))
    return path


def _present(device: torch.device) -> torch.device:
    """Return the device, or the CPU where only a cluster's nodes have it."""
    return device if device.type == "cpu" or torch.cuda.is_available() else torch.device("cpu")


def left_of(path: Path, device: torch.device, *, ray: bool = False) -> tuple[Suite, list[AnyJob]]:
    """Return what a run was asked to do and its jobs without a row; raises InputError as `resume` does."""
    suite, root = resume(path, device, ray=ray)
    loaded = results.load(path)
    cases = [case for case in suite.cases() if case.name in loaded.manifest.cases]
    return suite, _left(_jobs(suite, cases, device, root, path, loaded.rows), {row.job for row in loaded.rows})


def expected_process_seconds(suite: Suite) -> float:
    """Return about how long a process of a case takes: its rounds, and two seconds and a warm-up an arm."""
    timing = suite.timing
    if timing is None:
        return 0.0
    return timing.process_budget_s + timing.preheat_on("cpu") + len(suite.schemes) * (timing.warmup_s + 2.0)


def resume(path: Path, device: torch.device, *, ray: bool = False) -> tuple[Suite, str | None]:
    """Read what a run was asked to do; raises InputError if this is another device or, but for Ray, another machine.

    With Ray machines may differ, before and now, as every row says where it was measured; `results.by_machine`.
    """
    manifest = results.load_manifest(path)
    if ray and manifest.format < 3:
        raise InputError(f"{path} has rows that do not say where they were measured: start a new run with --ray")
    if ray or manifest.ray:
        there = manifest.ray.device if manifest.ray else manifest.machine.device.partition(":")[0]
        changed = {"device": (there, device.type)} if there != device.type else {}
    else:
        changed = results.differences(manifest.machine, machine.describe(device))
    for key, (before, now) in changed.items():
        raise InputError(
            f"{path} was measured with {key} {before!r}, this is {now!r}; results of different machines are not "
            "mixed: start a new run"
        )
    return validate(manifest.suite.model_dump(exclude_unset=True), str(path / "run.json")), manifest.data


def finish(
    path: Path,
    suite: Suite,
    device: torch.device,
    root: str | None,
    piece: Piece | None = None,
    execute: Execute | None = None,
) -> results.Run:
    """Do what is left of a run, or as much as fits into the piece, showing progress, and return what there is.

    It is done on this machine one after the other, unless `execute` does it elsewhere.
    """
    piece = piece or Piece()
    execute = execute or partial(_one_by_one, piece)
    with results.locked(path), _progress_bar() as progress, suppress(PieceOver):
        results.repair(path)
        loaded = results.load(path)
        cases = [case for case in suite.cases() if case.name in loaded.manifest.cases]
        done = {row.job: row for row in loaded.rows}
        for kind, loaded_rows in ((Job, loaded.cases), (QualityJob, loaded.quality)):
            for row in loaded_rows:
                piece.saw(kind.__name__, row.took_s)
        overall = progress.add_task("suite", total=None, completed=len(done), at="")
        rows: dict[str, TaskID] = {}
        shares: dict[str, float] = {}

        def show(name: str, what: str, share: float) -> None:
            if name not in rows:
                rows[name] = progress.add_task(name, total=1.0, at=what)
            shares[name] = share
            progress.update(rows[name], completed=share, at=what)
            progress.update(overall, completed=len(done) + sum(shares.values()))

        while left := _left(_jobs(suite, cases, device, root, path, done.values()), done):
            progress.update(overall, total=len(done) + len(left))
            with closing(execute(left, done, show)) as finished:
                for job, found in finished:
                    row = results.row_of(found)
                    results.append(path, row)
                    done[job.name] = row
                    shares.pop(job.name, None)
                    if job.name in rows:
                        progress.remove_task(rows.pop(job.name))
                    progress.update(overall, completed=len(done) + sum(shares.values()))
    return results.load(path)


def _one_by_one(piece: Piece, jobs: list[AnyJob], done: Mapping[str, results.AnyRow], show: ShowOf) -> Finished:
    """Do jobs on this machine, in their order, as long as the piece lasts."""
    for job in jobs:
        kind = type(job).__name__
        piece.begin(kind, expected_process_seconds(job.suite) if isinstance(job, Job) else None)
        show(job.name, "starting", 0.0)
        here = machine.describe(torch.device(job.device))
        found = perform(prepared(job, done) or job, partial(show, job.name)) | ALONE | {"machine": here.model_dump()}
        yield job, found
        piece.finished(kind, found["took_s"])


def prepared(job: AnyJob, done: Mapping[str, results.AnyRow]) -> AnyJob | None:
    """Return the job with the settings that a search has chosen for it; None as long as the search is not done."""
    if isinstance(job, Job) or not job.waits_for:
        return job
    if not all(name in done for name in job.waits_for):
        return None
    searches = [row for name in job.waits_for if isinstance(row := done[name], results.QualityRow)]
    return replace(job, settings=chosen_settings(searches))


def _left(jobs: Sequence[AnyJob], done: Container[str]) -> list[AnyJob]:
    return [job for job in jobs if job.name not in done]


def _jobs(
    suite: Suite,
    cases: list[Case],
    device: torch.device,
    root: str | None,
    path: Path,
    rows: Iterable[results.AnyRow] = (),
) -> list[AnyJob]:
    """Return everything to be done of the cases, in the order it runs: a process of every case, then the next of each.

    How many processes a case needs is known by its rows, as far as there are any.
    """
    timed: list[AnyJob] = []
    if suite.timing:
        needed = {case.name: processes_needed(suite.timing, case.name, rows) for case in cases}
        timed = [
            Job(suite, case, str(device), root, path, process)
            for process in range(max(needed.values(), default=0))
            for case in cases
            if process < needed[case.name]
        ]
    if suite.quality is None:
        return timed
    by_name = {case.name: case for case in cases}
    return [*timed, *(_training(suite, by_name, key, device, root, path) for key in job_keys(by_name, suite.quality))]


def _training(
    suite: Suite, cases: Mapping[str, Case], key: JobKey, device: torch.device, root: str | None, path: Path
) -> QualityJob:
    name, variant, seed, trial = key
    assert suite.quality is not None
    searches = searches_of(name, variant, cases, suite.quality) if seed is not None else ()
    waits_for = tuple(job_name(*search) for search in searches)
    return QualityJob(suite, cases[name], variant, seed, str(device), root, path, trial=trial, waits_for=waits_for)


def _progress_bar() -> Progress:
    console = Console(stderr=True)  # stdout is for what a command has to say
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(bar_width=12),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[at]}", markup=False),
        console=console,
        disable=not console.is_terminal,  # where nobody looks it would leave an empty line
        transient=True,
        expand=True,
    )
