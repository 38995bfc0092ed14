"""Signals that ask a run to end become one exception, so that its processes end with it and it can say how to go on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT


class Stopped(KeyboardInterrupt):
    """A signal of that number asked for the end; a KeyboardInterrupt, which no guard of other people's code keeps."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that a signal ended."""
        return 128 + self.number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped for each of SIGNALS meanwhile; those that were ignored before (nohup) stay so. Main thread only."""

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
