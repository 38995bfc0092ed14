"""Runs a suite: a process a case, progress, resume, failures recorded as results.

The runner itself never touches the device while a case runs. A finished case is on the disk before the next one starts.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from bench import machine, results, worker
from bench.cases import Case
from bench.pieces import Piece, PieceOver
from bench.process import child, messages
from bench.quality import QualityJob, job_keys, job_name
from bench.suite import Suite, select
from bench.worker import Job
from osgan import data, nets
from osgan.distill import split as distillation
from osgan.errors import InputError, MissingDataError

Show = Callable[[str, float], None]


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
                dataset.batches(case.batch_size * (n_critic if case.is_gan else 1), seed=0)
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
) -> Path:
    """Make the folder of a new run of the cases selected."""
    cases = select(suite.cases(), only, exclude)
    absent = preflight(cases, root, suite.optimizer.n_critic)
    if all(case.dataset in absent for case in cases):
        raise InputError(f"no case can run: {'; '.join(absent.values())}")
    now = datetime.now(UTC)
    manifest = {
        "suite": suite.model_dump(mode="json"),
        "selection": {"only": list(only), "exclude": list(exclude)},
        "cases": [case.name for case in cases],
        "machine": machine.describe(device),
        "data": root,
        "started": now.isoformat(timespec="seconds"),
    }
    path = results.create(parent, manifest, now.strftime("%Y%m%dT%H%M%SZ"))
    for case in cases:
        if case.dataset in absent:
            _skip(Job(suite, case, str(device), root, path), absent[case.dataset])
    return path


def _skip(job: Job, reason: str) -> None:
    """Record everything that was to be done of a case as skipped."""
    if job.suite.timing:
        results.append(job.run, worker.failed(job, reason, "skipped"))
    for training in _trainings(job.suite, [job.case], job.device, job.root, job.run):
        results.append(job.run, worker.failed(training, reason, "skipped"), results.QUALITY)


def expected_seconds(suite: Suite) -> float:
    """Return about how long a case is timed at most: its rounds, and an arm's warm-up and two more seconds each."""
    return suite.timing.budget_s + len(suite.schemes) * (suite.timing.warmup_s + 2.0) if suite.timing else 0.0


def resume(path: Path, device: torch.device) -> tuple[Suite, str | None]:
    """Read what a run was asked to do; raises InputError if this is another machine or device."""
    manifest = results.load_manifest(path)
    here = machine.describe(device)
    for key in ("device", "gpu", "cpu", "threads", "libraries"):
        if here[key] != manifest["machine"][key]:
            raise InputError(
                f"{path} was measured with {key} {manifest['machine'][key]!r}, this is {here[key]!r}; results of "
                "different machines are not mixed: start a new run"
            )
    return Suite.model_validate(manifest["suite"]), manifest["data"]


def finish(path: Path, suite: Suite, device: torch.device, root: str | None, piece: Piece | None = None) -> results.Run:
    """Do what is left of a run, or as much as fits into the piece, showing progress, and return what there is."""
    piece = piece or Piece()
    with results.locked(path), _progress_bar() as progress, suppress(PieceOver):
        results.repair(path)
        loaded = results.load(path)
        cases = [case for case in suite.cases() if case.name in loaded.manifest["cases"]]
        timed = cases if suite.timing else []
        trainings = _trainings(suite, cases, str(device), root, path)
        done = {record["name"]: record for record in [*loaded.cases, *loaded.quality]}
        for file, records in ((results.CASES, loaded.cases), (results.QUALITY, loaded.quality)):
            for record in records:
                piece.saw(file, record)
        overall = progress.add_task("suite", total=len(timed) + len(trainings), completed=len(done), at="")

        def work(name: str, do: Callable[[Show], results.Record], file: str) -> results.Record:
            if name in done:
                return done[name]
            piece.begin(file, expected_seconds(suite) if file == results.CASES else None)
            before = len(done)
            row = progress.add_task(name, total=1.0, at="starting")

            def show(what: str, share: float) -> None:
                progress.update(row, completed=share, at=what)
                progress.update(overall, completed=before + share)

            done[name] = do(show)
            results.append(path, done[name], file)
            piece.finished(file, done[name])
            progress.remove_task(row)
            progress.update(overall, completed=len(done))
            return done[name]

        for case in timed:
            work(case.name, partial(_time, Job(suite, case, str(device), root, path)), results.CASES)
        for training in trainings:
            if training.seed is not None:
                searched = done.get(job_name(training.case.name, training.variant, None), {}).get("tuned") or {}
                settings = {scheme: found["setting"] for scheme, found in searched.items() if found["setting"]}
                training = replace(training, settings=settings)
            work(training.name, partial(_train, training), results.QUALITY)
    return results.load(path)


def _trainings(suite: Suite, cases: list[Case], device: str, root: str | None, path: Path) -> list[QualityJob]:
    """Return every quality job of the cases, in the order they run."""
    if suite.quality is None:
        return []
    by_name = {case.name: case for case in cases}
    keys = job_keys(by_name, suite.quality)
    return [QualityJob(suite, by_name[name], variant, seed, device, root, path) for name, variant, seed in keys]


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(bar_width=12),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[at]}", markup=False),
        transient=True,
        expand=True,
    )


def _time(job: Job, show: Show) -> results.Record:
    assert job.suite.timing is not None
    started = time.perf_counter()
    limit_s = job.suite.timing.time_limit_s
    deadline = time.monotonic() + limit_s
    peaks = {}
    if torch.device(job.device).type == "cpu":
        for scheme in job.suite.schemes:
            show(f"{scheme}: memory", 0.0)
            peaks[scheme] = worker.resident_growth(job, scheme, deadline)
    record = _in_a_process(job, deadline, limit_s, show)
    for scheme, arm in record["arms"].items():
        record["arms"][scheme] = peaks.get(scheme, {}) | arm
    return record | {"took_s": round(time.perf_counter() - started, 3)}


def _train(job: QualityJob, show: Show) -> results.Record:
    started = time.perf_counter()
    limit_s = job.plan.time_limit_s
    record = _in_a_process(job, time.monotonic() + limit_s, limit_s, show)
    return record | {"took_s": round(time.perf_counter() - started, 3)}


def _in_a_process(job: Job | QualityJob, deadline: float, limit_s: float, show: Show) -> results.Record:
    with child(worker.main, job) as (process, receiving):
        try:
            for kind, *content in messages(receiving, deadline):
                if kind == "result":
                    record: results.Record = content[0]
                    return record
                show(*content)
        except TimeoutError:
            return worker.failed(job, f"not finished within the suite's time_limit_s of {limit_s:g} s")
    return worker.failed(job, f"its process ended without a result: {_how(process.exitcode)}")


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by signal {-exit_code}" + (" (out of memory?)" if exit_code == -9 else "")
    return f"exit status {exit_code}"
