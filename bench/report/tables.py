"""Tables of what was measured beside the time, as text: pure functions of results."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.doubts import bound
from bench.efficiency import busy_shares, matmul_shares
from bench.report.words import share_text
from bench.results import Record, Run
from bench.speedup import REFERENCE

NAME_LENGTH = 90

Text = Callable[[Record, str], str | None]


def figures(run: Run) -> list[tuple[str, list[list[str]]]]:
    """Return (title, rows): a row a case, a column a scheme."""
    schemes = run.manifest["suite"]["schemes"]
    tables = [(title, [_row(record, schemes, text) for record in run.cases]) for title, text in _FIGURES.items()]
    return [(title, rows) for title, rows in tables if any(cell != "-" for row in rows for cell in row)]


def _row(record: Record, schemes: list[str], text: Text) -> list[str]:
    return [text(record, scheme) or "-" for scheme in schemes]


def _figure(key: str, digits: int, scale: float = 1.0) -> Text:
    def text(record: Record, scheme: str) -> str | None:
        value = record["arms"].get(scheme, {}).get(key)
        return None if value is None else f"{value / scale:,.{digits}f}"

    return text


def _matmul(record: Record, scheme: str) -> str | None:
    shares = matmul_shares(record, scheme)
    return share_text(statistics.median(shares)) if shares else None


def _idle(record: Record, scheme: str) -> str | None:
    shares = busy_shares(record, scheme)
    return share_text(1 - statistics.median(shares)) if shares else None


_FIGURES: dict[str, Text] = {
    "GFLOP a step": _figure("flops", 3, 1e9),
    "FLOP/s achieved over those of a large matrix product": _matmul,
    "Share of a step in which the GPU is idle": _idle,
    "Operators a step": _figure("operators", 0),
    "Kernels a step": _figure("kernels", 0),
    "Peak memory allocated (MiB), each arm alone": _figure("peak_allocated_mib", 1),
    "Peak memory reserved (MiB), each arm alone": _figure("peak_reserved_mib", 1),
    "Peak growth of the resident set (MiB), each arm in a process of its own": _figure("peak_resident_growth_mib", 1),
    "Largest batch that fits": _figure("largest_batch", 0),
    "Energy (joules per 1,000 images)": _figure("joules_per_1000_images", 2),
    "Bound by": lambda record, scheme: bound(record["arms"].get(scheme, {})),
}


@dataclass(frozen=True)
class KernelRow:
    """A kernel of the one_stage step of one case."""

    case: int
    """Its place among the run's cases."""
    name: str
    ms: float
    calls: float
    share: float
    """Of the time in which anything runs; the sum may pass 1 where kernels overlap."""

    @property
    def short_name(self) -> str:
        """The name without the tail of its template arguments."""
        return self.name if len(self.name) <= NAME_LENGTH else f"{self.name[:NAME_LENGTH]}..."


def kernels(run: Run) -> list[list[KernelRow]]:
    """Return the kernels that take the most time, a list for each case that was profiled."""
    found = []
    for index, record in enumerate(run.cases):
        arm: dict[str, Any] = record["arms"].get(REFERENCE, {})
        if (top := arm.get("top_kernels")) and arm.get("busy_ms"):
            found.append([KernelRow(index, k["name"], k["ms"], k["calls"], k["ms"] / arm["busy_ms"]) for k in top])
    return found
