"""What `python -m bench peers` does: checks what is asked for, runs it, prints the table of the targets."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from rich.console import Console

from bench.peers import report as reports
from bench.peers import runner
from bench.peers.measuring import Job
from bench.peers.peer import Peer, Precision, Settings
from osgan.errors import InputError, unknown
from osgan.training.engine import Engine

CPU_NARROWER = 4


@dataclass(frozen=True)
class Asked:
    """The options of the command; None is the peer's own."""

    device: torch.device
    batch_size: int | None
    width: int | None
    resolution: int | None
    precision: str
    engine: str
    """Of our steps; `auto` is a captured step on a GPU and an eager one elsewhere."""
    folder: Path | None
    rounds: int | None
    budget_s: float


def measure(console: Console, repos: Sequence[Path], asked: Asked, only: tuple[str, ...], parent: Path) -> Path:
    """Measure checkouts and return the run's folder; raises InputError before anything runs where it can."""
    if not repos:
        raise InputError("which checkout? Give its folder with --repo; several may be given")
    if asked.precision not in get_args(Precision):
        raise unknown("precision", asked.precision, get_args(Precision))
    if asked.engine != "auto":
        Engine.parse(asked.engine)
    kinds = [runner.detect(repo) for repo in repos]
    jobs = [_job(peer, repo, asked, only) for peer, repo in zip(kinds, repos, strict=True)]

    def say(what: str) -> None:
        status.update(what)

    with console.status("starting") as status:
        return runner.run(jobs, parent, _words(kinds, asked, only), say)


def report(console: Console, path: Path, parent: Path) -> None:
    """Write a run's report and print its targets; raises InputError if a checkout failed."""
    record = runner.load(path)
    page = reports.write(path, parent)
    for title, case, theirs, ours, ratio, target, verdict in reports.targets(record):
        line = f"{title}, {case}: {theirs} over {ours}: {ratio}, target {target}: {verdict}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"results: {path}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    if failed := [f"{peer['title']}: {peer['reason']}" for peer in record["peers"] if peer["status"] != "ok"]:
        raise InputError("; ".join(failed))


def _job(peer: Peer, repo: Path, asked: Asked, only: tuple[str, ...]) -> Job:
    cpu = asked.device.type == "cpu"
    batch_size, width, resolution = peer.batch_size, peer.width, peer.resolutions[0]
    if cpu:
        batch_size, width = peer.cpu_batch_size, peer.cpu_width or width // CPU_NARROWER
        resolution = peer.cpu_resolution or resolution
    settings = Settings(
        device=asked.device,
        batch_size=asked.batch_size or batch_size,
        width=asked.width or width,
        resolution=asked.resolution or resolution,
        folder=None if asked.folder is None else asked.folder.resolve(),
    )
    if settings.resolution not in peer.resolutions:
        accepted = ", ".join(map(str, peer.resolutions))
        raise InputError(f"--resolution {settings.resolution}: {peer.title} has networks for {accepted}")
    return Job(
        key=peer.key,
        path=repo.resolve(),
        settings=settings,
        precision=asked.precision,  # type: ignore[arg-type]
        engine=asked.engine if asked.engine != "auto" else "eager" if cpu else "cuda_graph",
        rounds=asked.rounds,
        budget_s=asked.budget_s,
        only=only,
    )


def _words(kinds: Sequence[Peer], asked: Asked, only: tuple[str, ...]) -> str:
    """Return the command line; the places of the checkouts and the folder are the next user's own."""
    words = [f"--repo CHECKOUT_OF_{peer.url.rpartition('/')[2].upper()}" for peer in kinds]
    words += [
        f"--device {asked.device} --precision {asked.precision} --engine {asked.engine} --budget {asked.budget_s:g}"
    ]
    given = {"batch-size": asked.batch_size, "width": asked.width, "resolution": asked.resolution}
    words += [f"--{name} {value}" for name, value in (given | {"rounds": asked.rounds}).items() if value is not None]
    words += [f"--only {shlex.quote(pattern)}" for pattern in only]
    words += ["--folder FOLDER"] if asked.folder else []
    return " ".join(["python -m bench peers", *words])
