"""Runs peers: a process a checkout, which sends what it finds; results/peers/<stamp>_<machine>_<commit>/peers.json.

Format versions of peers.json:
1  2026-11: first.
2  2026-11: an arm has `flops`, null where they were not counted; a check has its `precision`, float32 before.
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, results
from bench.child import child, messages
from bench.peers.measuring import Job
from bench.peers.peer import Peer, Record
from bench.peers.worker import PEERS, empty_record, main
from osgan.errors import InputError

FORMAT_VERSION = 2
LIMIT_S = 4 * 3600.0


def detect(path: Path) -> Peer:
    """Return the kind of a checkout; raises InputError where it is none that is known."""
    if not path.is_dir():
        raise InputError(f"--repo {path}: no such folder; give the folder of a checkout")
    for peer in PEERS.values():
        if peer.recognises(path):
            return peer
    known = "; ".join(f"{p.title} ({p.url}) by {' and '.join(p.recognised_by)}" for p in PEERS.values())
    raise InputError(f"--repo {path} is none of the checkouts that are recognised: {known}")


def run(jobs: Sequence[Job], parent: Path, words: str, say: Callable[[str], None]) -> Path:
    """Measure every checkout and return the run's folder; what is measured so far is on the disk at any time."""
    device = jobs[0].settings.device
    here, now = machine.describe(device), datetime.now(UTC)
    record: Record = {
        "format": FORMAT_VERSION,
        "started": now.isoformat(timespec="seconds"),
        "command": words,
        "machine": here.model_dump(),
        "peers": [],
    }
    path = results.new_folder(parent / "peers", here, now.strftime("%Y%m%dT%H%M%SZ"))
    for job in jobs:
        say(f"{PEERS[job.key].title}")
        record["peers"].append(empty_record(job))
        with child(main, job) as (process, receiving):
            try:
                for kind, content in messages(receiving, time.monotonic() + LIMIT_S):
                    if kind == "at":
                        say(f"  {content}")
                    else:
                        record["peers"][-1] = content
                        _write(path, record)
            except TimeoutError:
                record["peers"][-1] |= {"status": "failed", "reason": f"took more than {LIMIT_S:.0f} s"}
        if process.exitcode and record["peers"][-1]["status"] == "ok":  # it ended before its last case
            found = len(record["peers"][-1]["cases"])
            reason = f"its process ended with exit status {process.exitcode} after {found} cases"
            record["peers"][-1] |= {"status": "failed", "reason": reason}
        _write(path, record)
    return path


def load(path: Path) -> Record:
    """Read a run's peers.json; raises InputError for what is none."""
    file = path / "peers.json"
    record = results.read_json(file, "a run of peers")
    if record.get("format") not in range(1, FORMAT_VERSION + 1):
        raise InputError(
            f"{file} has format {record.get('format')!r}; this version of bench reads formats 1 to {FORMAT_VERSION}"
        )
    return record


def _write(path: Path, record: Record) -> None:
    results.write_atomically(path / "peers.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
