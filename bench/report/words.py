"""The sentences and number formats of the report and of the terminal: one wording for both."""

from bench.speedup import CLAIMED, CONFIDENCE, PAPER_BASELINE, STRONGEST_BASELINE, Comparison, Summary
from bench.statistics import Interval


def number_text(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for one that is missing."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval_text(interval: Interval | None) -> str:
    """Return `1.42 (1.40-1.44)`, or nothing for a missing interval."""
    return "" if interval is None else f"{interval.estimate:.2f} ({interval.low:.2f}-{interval.high:.2f})"


def comparison_text(comparison: Comparison) -> str:
    """Return the speedup and its interval, marked ~ if inconclusive, or the verdict where there is no number."""
    mark = " ~" if comparison.verdict == "inconclusive" else ""
    return (interval_text(comparison.speedup) or comparison.verdict) + mark


def verdict_lines(summaries: list[Summary]) -> list[str]:
    """Say what the run shows: the paper's baseline, the strongest one, and the claim of 1.5x."""
    by_name = {summary.baseline: summary for summary in summaries}
    lines = [_against(by_name[name], role) for name, role in _ROLES.items() if name in by_name]
    if PAPER_BASELINE in by_name:
        claim = by_name[PAPER_BASELINE].claim()
        lines.append(
            f"The claim of {CLAIMED}x against {PAPER_BASELINE}, on this machine, at {CONFIDENCE:.0%} confidence: "
            f"{claim}."
        )
    return lines or ["No two-stage baseline was measured, so there is no verdict."]


_ROLES = {PAPER_BASELINE: "the paper's baseline", STRONGEST_BASELINE: "the strongest two-stage step"}


def _against(summary: Summary, role: str) -> str:
    counts: dict[str, int] = {}
    for comparison in summary.comparisons:
        counts[comparison.verdict] = counts.get(comparison.verdict, 0) + 1
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    if summary.overall is None:
        return f"Against {summary.baseline} ({role}) nothing could be measured ({tally or 'no case'})."
    overall = summary.overall
    word = "faster" if overall.low > 1 else "slower" if overall.high < 1 else "neither faster nor slower"
    return (
        f"A one-stage step is {word} than {summary.baseline} ({role}): {overall.estimate:.3f}x "
        f"[{overall.low:.3f}, {overall.high:.3f}], geometric mean of {len(summary.measured)} cases, "
        f"FLOP ceiling {number_text(summary.ceiling, 3)} ({tally})."
    )
