"""Work in a process of its own, which sends what it finds through a pipe and ends when the caller is done with it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from osgan.errors import InputError

TERMINAL_SIGNALS = signal.SIGINT, signal.SIGQUIT, signal.SIGHUP
"""What a terminal sends to all of its processes at once: it is for the caller, who ends its children."""
RESTARTS_S = 0.1, 0.4, 1.0, 3.0
"""Pauses before a process that could not be started is started again."""


class KilledError(RuntimeError):
    """A process was ended by a signal: no fault of what it did, as far as can be known."""


@contextmanager
def child(
    target: Callable[..., None], *arguments: Any, fresh: bool = False
) -> Iterator[tuple[BaseProcess, Connection]]:
    """Run target(*arguments, connection), all picklable, in a process of its own; leaving the context ends it.

    It is a fork of a server that has imported the libraries, which takes milliseconds, or a `fresh` interpreter, which
    takes seconds and shares nothing with another.
    """
    if not fresh:
        multiprocessing.set_forkserver_preload(["bench.execution.worker", "sklearn.datasets"])
        _start_fork_server()
    context: Any = multiprocessing.get_context("spawn" if fresh else "forkserver")
    receiving, sending = context.Pipe(duplex=False)
    # not a daemon: those may have no children, and data loaders do; it ends by itself with the caller
    process = context.Process(target=_run, args=(target, arguments, sending))
    with _terminal_signals_blocked():
        _start(process)
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
            message = receiving.recv()
        except (EOFError, OSError):  # it ended, perhaps in the middle of a message
            return
        yield message


def was_killed(process: BaseProcess) -> bool:
    """Whether a process that has ended was ended by a signal."""
    return process.exitcode is not None and process.exitcode < 0


def how_it_ended(process: BaseProcess) -> str:
    """Return how a process that has ended did: what `was_killed` speaks of, or its exit status."""
    code = process.exitcode
    if code is not None and code < 0:
        return f"killed by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"exit status {code}"


def caller_is_gone(timeout_s: float = 0.0) -> bool:
    """Whether the process that called `child` for this one has ended, or does so within that time."""
    caller = parent_process()
    return caller is not None and bool(wait([caller.sentinel], timeout_s))


def _start(process: BaseProcess) -> None:
    """Start a process, if need be by another fork server: one that was killed is replaced once it is seen to be."""
    for pause_s in RESTARTS_S:
        try:
            process.start()
            return
        except (EOFError, OSError):
            time.sleep(pause_s)
    try:
        process.start()
    except EOFError:
        raise InputError(
            "no process can be started: their fork server is killed whenever it begins; free memory"
        ) from None


def _start_fork_server() -> None:
    """Start the fork server if there is none; it and all that it forks block the terminal's signals from the start."""
    with _terminal_signals_blocked():
        forkserver.ensure_running()


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Block the terminal's signals, which a process that is started meanwhile inherits."""
    resource_tracker.ensure_running()  # it would unblock them when it is started meanwhile
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(target: Callable[..., None], arguments: tuple[Any, ...], connection: Connection) -> None:
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    multiprocessing.set_start_method("fork", force=True)  # for data loaders: a worker would import everything again
    with suppress(BrokenPipeError):  # the caller is gone
        target(*arguments, connection)


def _end_with_the_caller() -> None:
    caller = parent_process()
    assert caller is not None
    wait([caller.sentinel])
    os._exit(1)
