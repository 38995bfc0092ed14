"""Work in a process of its own, which sends what it finds through a pipe and ends when the caller is done with it."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any


@contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """Run target(*arguments, connection), all picklable, in a fresh process; leaving the context ends it."""
    # A fork server imports the libraries once; every process then starts afresh within milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.execution.worker", "sklearn.datasets"])
    receiving, sending = context.Pipe(duplex=False)
    # not a daemon: those may have no children, and data loaders do; it ends by itself when the pipe breaks
    process = context.Process(target=_run, args=(target, arguments, sending))
    process.start()
    sending.close()
    try:
        yield process, receiving
    finally:
        if process.is_alive():
            process.join(timeout=1.0)  # it may be about to end by itself
            process.kill()
        process.join()


def messages(receiving: Connection, deadline: float) -> Iterator[Any]:
    """Yield what the process sends until it ends; raises TimeoutError at the deadline, a time of time.monotonic()."""
    while True:
        if not receiving.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            yield receiving.recv()
        except EOFError:
            return


def _run(target: Callable[..., None], arguments: tuple[Any, ...], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends this process
    multiprocessing.set_start_method("fork", force=True)  # for data loaders: a worker would import everything again
    target(*arguments, connection)
