"""A timed case over all its processes: one row, whose times are those of its processes one after the other."""

from collections.abc import Sequence

from bench.results.parts import Context
from bench.results.rows import Arm, CaseRow

LISTS = ("wall_ms", "device_ms", "host_ms")


class TimedCase(CaseRow):
    """A case as reports show it. What was measured in one process, such as memory and work, is the first's."""

    members: list[CaseRow]
    """The rows of the processes that have arms; the first row where none has."""
    certain: int | None = None
    """Processes that were certain to run."""

    @property
    def processes(self) -> list[CaseRow]:
        """The rows of its processes."""
        return self.members

    @property
    def first_stage(self) -> int | None:
        """Processes that were certain to run; those after them ran because the interval was wide."""
        return self.certain


def timed_case(rows: Sequence[CaseRow], certain: int | None = None) -> TimedCase:
    """Return the rows of one case's processes as one.

    An arm is ok where it is ok in every process that has arms. A process without any, one that was killed say, makes
    the case a failed one, and leaves the others' times.
    """
    rows = sorted(rows, key=lambda row: row.process)
    members = [row for row in rows if row.arms] or rows[:1]
    first = members[0]
    worst = next((row for row in rows if row.status != "ok"), first)
    several = len(rows) > 1 and worst.status != "ok"
    whole = {name: getattr(first, name) for name in CaseRow.model_fields} | {
        "arms": {scheme: _arm(scheme, members) for scheme in first.arms},
        "status": worst.status,
        "reason": f"process {worst.process + 1}: {worst.reason}" if several else worst.reason,
        "rounds": sum(row.rounds for row in members),
        "ended_by": next((row.ended_by for row in members if row.ended_by == "budget_s"), first.ended_by),
        "order": [arms for row in members for arms in row.order or []] or first.order,
        "context": _context([row.context for row in members if row.context]),
        "took_s": None if first.took_s is None else sum(row.took_s or 0.0 for row in rows),
        "lost": [cause for row in rows for cause in row.lost or []] or first.lost,
        "beside": sorted({name for row in rows for name in row.beside or []}) or first.beside,
        "members": members,
        "certain": certain,
    }
    return TimedCase.model_construct(**whole)  # of what was checked when it was read


def _arm(scheme: str, rows: Sequence[CaseRow]) -> Arm:
    found = [(row.process, row.arms[scheme]) for row in rows if scheme in row.arms]
    first = found[0][1]
    process, worst = next(((process, arm) for process, arm in found if arm.status != "ok"), (0, first))
    several = len(rows) > 1 and worst.status != "ok"
    changes: dict[str, object] = {
        "status": worst.status,
        "reason": f"process {process + 1}: {worst.reason}" if several else worst.reason,
        "steady": None if first.steady is None else all(arm.steady is not False for _, arm in found),
        "fallbacks": list(dict.fromkeys(cause for _, arm in found for cause in arm.fallbacks or [])) or first.fallbacks,
    }
    for key in LISTS:
        times = [getattr(arm, key) for _, arm in found]
        changes[key] = None if None in times else tuple(ms for one in times for ms in one)
    return first.model_copy(update=changes)


def _context(notes: Sequence[Context]) -> Context | None:
    """Return what the machine did meanwhile, the worst of all processes."""
    if not notes:
        return None
    shares = [note.others_cpu_share for note in notes if note.others_cpu_share is not None]
    clocks = [clock for note in notes for clock in note.sm_clock_mhz or ()]
    reasons = [note.throttling for note in notes if note.throttling is not None]
    return notes[0].model_copy(
        update={
            "load_after": notes[-1].load_after,
            "others_cpu_share": max(shares, default=None),
            "sm_clock_mhz": (min(clocks), max(clocks)) if clocks else None,
            "throttling": sorted({cause for causes in reasons for cause in causes}) if reasons else None,
        }
    )
