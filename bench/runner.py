"""Runs a suite: a process a case, progress, resume, failures recorded as results.

The runner itself never touches the device while a case runs. A finished case is on the disk before the next one starts.
"""

import multiprocessing
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import machine, results, worker
from bench.suite import Case, Suite
from osgan import data, nets
from osgan.errors import InputError


def preflight(suite: Suite, root: str | None) -> None:
    """Load every data set of a suite once, on the CPU, so that what is wrong with one is said before anything runs."""
    needed = {(case.dataset, nets.resolution_of(case.architecture)) for case in suite.cases()}
    for name, resolution in sorted(needed):
        dataset = data.load(name, resolution=resolution, device="cpu", root=root)
        for case in suite.cases():
            if case.dataset == name:
                dataset.batches(case.batch_size, seed=0)


def start(suite: Suite, device: torch.device, root: str | None, parent: Path) -> Path:
    """Make the folder of a new run."""
    now = datetime.now(UTC)
    manifest = {
        "suite": suite.model_dump(mode="json"),
        "cases": [case.name for case in suite.cases()],
        "machine": machine.describe(device),
        "data": root,
        "started": now.isoformat(timespec="seconds"),
    }
    return results.create(parent, manifest, now.strftime("%Y%m%dT%H%M%SZ"))


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


def finish(path: Path, suite: Suite, device: torch.device, root: str | None, progress: Progress) -> None:
    """Run the cases of a run that are not finished yet."""
    with results.locked(path):
        results.repair(path)
        done = {record["name"] for record in results.load(path).cases}
        cases = suite.cases()
        overall = progress.add_task("suite", total=len(cases), completed=sum(c.name in done for c in cases), at="")
        for case in cases:
            if case.name in done:
                continue
            row = progress.add_task(case.name, total=1.0, at="starting")
            results.append(path, _run(suite, case, device, root, path, progress, row))
            progress.remove_task(row)
            progress.advance(overall)


def progress_bar() -> Progress:
    """Return the bar: case, arm at work, share done, time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[at]}", markup=False),
        transient=True,
    )


def _run(
    suite: Suite, case: Case, device: torch.device, root: str | None, path: Path, progress: Progress, row: Any
) -> results.Record:
    # A fork server imports PyTorch once; every case then starts in a fresh process within milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.worker"])
    receiving, sending = context.Pipe(duplex=False)
    # not a daemon: those may have no children, and data loaders do; it ends by itself when the pipe breaks
    process = context.Process(target=worker.main, args=(suite, case, str(device), root, path, sending))
    process.start()
    sending.close()
    try:
        for what, share in _messages(process, receiving, time.monotonic() + suite.timing.time_limit_s):
            if isinstance(share, dict):
                return share
            progress.update(row, completed=share, at=what)
    except TimeoutError:
        return worker.failed(case, f"not finished within the suite's time_limit_s of {suite.timing.time_limit_s:g} s")
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    return worker.failed(case, f"its process ended without a result: {_how(process.exitcode)}")


def _messages(process: BaseProcess, receiving: Connection, deadline: float) -> Iterator[tuple[str, Any]]:
    while True:
        if not receiving.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            kind, *content = receiving.recv()
        except EOFError:
            process.join()
            return
        yield ("result", content[0]) if kind == "result" else (content[0], content[1])


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by signal {-exit_code}" + (" (out of memory?)" if exit_code == -9 else "")
    return f"exit status {exit_code}"
