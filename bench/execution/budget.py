"""A run cut into pieces: whether the next job still fits into the time that this piece has."""

import time
from collections.abc import Callable


class PieceOver(Exception):  # noqa: N818, no error: what is left is for the next piece
    """The next job would not end in time."""


class Piece:
    """The time of one call; `begin` before a job, `finished` after it.

    A job is expected to take as long as the longest of its kind that the run has seen, before that as long as the plan
    says, and before that it is begun. A call always does one job, so that a run cut ever so small comes to its end.
    """

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock
        self.start = clock()
        self.longest: dict[str, float] = {}
        self.jobs_done = 0
        self.over = False

    def saw(self, kind: str, took_s: float | None) -> None:
        """Note how long a job took, in this piece or in one before it; None for one that was skipped."""
        if took_s:
            self.longest[kind] = max(self.longest.get(kind, 0.0), took_s)

    def begin(self, kind: str, planned_s: float | None) -> None:
        """Raise PieceOver if a job that is planned to take so long would end after this piece."""
        if self.seconds is None or not self.jobs_done:
            return
        expected = self.longest.get(kind, planned_s or 0.0)
        if self.clock() - self.start + expected > self.seconds:
            self.over = True
            raise PieceOver

    def finished(self, kind: str, took_s: float | None) -> None:
        """Note that a job of this piece is done."""
        self.saw(kind, took_s)
        self.jobs_done += 1
