"""One process, one checkout: loads it, measures its cases, and sends its record after each."""

import contextlib
import multiprocessing
import os
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from bench.peers import (
    adversarial_flow,
    basicsr,
    gat,
    hifi_gan,
    mimicry,
    osgan_authors,
    pytorch_dcgan,
    r3gan,
    studiogan,
    taming_transformers,
)
from bench.peers.measuring import Job, measure
from bench.peers.peer import Changes, Peer, Record
from bench.probes.timing import named
from osgan.errors import InputError

ADAPTERS = (
    osgan_authors,
    mimicry,
    pytorch_dcgan,
    hifi_gan,
    basicsr,
    taming_transformers,
    r3gan,
    studiogan,
    adversarial_flow,
    gat,
)
PEERS: dict[str, Peer] = {adapter.PEER.key: adapter.PEER for adapter in ADAPTERS}


def empty_record(job: Job) -> Record:
    """Return the record of a checkout of which nothing is measured."""
    peer = PEERS[job.key]
    commit = _git(job.path, "rev-parse", "HEAD")
    return {
        "key": peer.key,
        "title": peer.title,
        "url": peer.url,
        "commit": commit,
        "dirty": None if commit is None else bool(_git(job.path, "status", "--porcelain", "--untracked-files=no")),
        "status": "failed",
        "reason": "its process ended without a result",
        "patched": [],
        "remarks": [],
        "cases": [],
    }


def _git(path: Path, *arguments: str) -> str | None:
    """Ask git about a checkout; None where the folder is none itself, though it may lie within one."""
    if not (path / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(path), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def main(job: Job, connection: Connection) -> None:
    """Measure one checkout, in a process of its own, and send its record after each case."""
    warnings.filterwarnings("ignore")  # deprecations that their code meets: theirs to mend
    # Their loaders' processes are forks, as when a script is started by itself; this process would pass on its own way,
    # which imports every library again in each of them.
    multiprocessing.set_start_method("fork", force=True)
    record = empty_record(job)
    try:
        with (
            tempfile.TemporaryDirectory() as place,
            contextlib.chdir(place),  # scripts write where they are
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            for record in measured(job, lambda what: connection.send(("at", what))):
                connection.send(("record", record))
    except BrokenPipeError:
        return  # the runner is gone
    except InputError as error:
        connection.send(("record", record | {"status": "failed", "reason": str(error)}))
    except Exception as error:
        traceback.print_exc()
        connection.send(("record", record | {"status": "failed", "reason": named(error)}))


def measured(job: Job, report: Callable[[str], None]) -> Iterator[Record]:
    """Yield the checkout's record as it grows by a case."""
    device = job.settings.device
    if device.index is not None:
        torch.cuda.set_device(device)  # theirs knows no other
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job.precision == "tf32"
    changes = Changes()
    report("loading the checkout")
    cases = PEERS[job.key].open(job.path, job.settings, changes)
    if job.settings.folder is not None and job.key != osgan_authors.PEER.key:
        changes.remark("Training from a folder is timed for the OSGAN authors' code only.")
    chosen = [case for case in cases if not job.only or any(fnmatch(case.name, f"*{pattern}*") for pattern in job.only)]
    if not chosen:
        raise InputError(f"no case holds {' or '.join(job.only)}; there is: {', '.join(case.name for case in cases)}")
    del cases
    record = empty_record(job) | {"status": "ok", "reason": None}
    while chosen:
        record["cases"].append(measure(chosen.pop(0), job, report))
        record |= {"patched": changes.patched, "remarks": changes.remarks}
        yield record
