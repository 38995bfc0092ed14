"""What Ray runs on a node: a task that does one job in an interpreter of its own, and a board for news of it.

Ray keeps worker processes and uses them again, with another CUDA_VISIBLE_DEVICES or number of threads. A fresh
interpreter, and the fork server in it, never see those of a job before. So nothing here imports PyTorch.
"""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import ray

NEWS_EVERY_S = 0.3
LEAVE_S = 10.0

Attempt = tuple[str, int]
"""A job's name, and how often it had been lost before."""
News = dict[str, Any]
"""node: its label; host, started: of the attempt; what, share: its progress."""


class Board:
    """An actor on the driver's node that holds the latest news of every attempt since they were last taken."""

    def __init__(self) -> None:
        self.news: dict[Attempt, News] = {}

    def post(self, attempt: Attempt, news: News) -> None:
        """Replace an attempt's news."""
        self.news[attempt] = news

    def take(self) -> dict[Attempt, News]:
        """Return the news, and start with none."""
        taken, self.news = self.news, {}
        return taken


def perform(attempt: Attempt, payload: bytes, threads: int, board: Any) -> dict[str, Any]:
    """Do a pickled job and return its record, None where its process ended without one, and why, and its files."""
    label = ray.get_runtime_context().get_node_id()[:8]
    news = {"node": label, "host": _host(), "started": time.time()}
    board.post.remote(attempt, news | {"what": "starting", "share": 0.0})
    posted = time.monotonic()
    outcome: dict[str, Any] = {"record": None, "files": {}, "why": None}
    with tempfile.TemporaryFile() as errors:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}  # Ray's own idea is the task's number of CPUs
        command = [sys.executable, "-m", "bench.execution.ray_job"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(payload)
                process.stdin.flush()  # and left open: it ends when this closes, be it by our death
                for kind, *content in _messages(process.stdout):
                    if kind == "result":
                        outcome["record"], outcome["files"] = content
                        with suppress(subprocess.TimeoutExpired):
                            process.wait(LEAVE_S)
                        break
                    if time.monotonic() - posted > NEWS_EVERY_S:
                        posted = time.monotonic()
                        board.post.remote(attempt, news | {"what": content[0], "share": content[1]})
            except BrokenPipeError:
                pass  # the reason is in what it wrote to stderr
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()
        if outcome["record"] is None:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            outcome["why"] = f"exit status {process.returncode}{': ' + said[-1] if said else ''}"
    return outcome | news | {"ended": time.time()}


def _messages(stream: IO[bytes]) -> Iterator[Any]:
    with suppress(EOFError, pickle.UnpicklingError):  # between two messages, or within one
        while True:
            yield pickle.load(stream)


def _host() -> str:
    """Return what tells the machines of a cluster apart without their names; two nodes may share a machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return str(ray.get_runtime_context().get_node_id())
