"""The sentences and number formats of the report and of the terminal: one wording for both."""

import statistics

from bench.speedup import CLAIMED, CONFIDENCE, PAPER_BASELINE, REFERENCE, STRONGEST_BASELINE, Comparison, Summary
from bench.statistics import Interval
from bench.time_to_quality import PLAIN, Reached, Study


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


def quality_lines(found: list[Study]) -> list[str]:
    """Say for each case how long one-stage takes to be as good as the best two-stage scheme, and what the cures do."""
    lines = []
    for case in dict.fromkeys(study.name for study in found):
        studies = [study for study in found if study.name == case]
        plain = next((study for study in studies if study.variant == PLAIN), None)
        if plain and plain.baseline and plain.targets:
            lines.append(_time_sentence(plain))
        if any(study.gap for study in studies):
            lines.append(f"{case}: {_gap_sentence(studies)}")
    return lines


def _time_sentence(study: Study) -> str:
    target = study.targets[0]
    reached = {r.scheme: r for r in target.reached}
    start = f"{study.name}: the final {study.metric} of {study.baseline}, {target.value:.1f},"
    mine = reached.get(REFERENCE)
    if mine is None or not mine.num_reached:
        return f"{start} is reached by one_stage with no seed."
    theirs = reached[study.baseline or ""]
    if theirs.speedup is None:
        others = f"by {theirs.scheme} itself with {seeds_text(theirs)}"
        return f"{start} is reached by one_stage with {seeds_text(mine)}, {others}."
    return (
        f"{start} takes {theirs.scheme} {theirs.speedup.estimate:.2f}x [{theirs.speedup.low:.2f}, "
        f"{theirs.speedup.high:.2f}] the training time of one_stage ({theirs.speedup.n} seeds)."
    )


def _gap_sentence(studies: list[Study]) -> str:
    """Compare one-stage's final values, cured or not, with the plain baseline's."""
    words = []
    for study in studies:
        if study.gap is None:
            words.append(f"{study.variant}: not known, a run failed")
            continue
        gap = study.gap
        verdict = "closed" if gap.high <= 1 else "open" if gap.low > 1 else "closed or open, 1 is in the interval"
        words.append(f"{study.variant} {gap.estimate:.2f} [{gap.low:.2f}, {gap.high:.2f}] ({verdict})")
    return f"final value of one_stage over that of the plain {studies[0].baseline}: {'; '.join(words)}."


def seeds_text(reached: Reached) -> str:
    """Return `2 of 3 seeds`."""
    return f"{reached.num_reached} of {len(reached.seconds)} seeds"


def seconds_text(reached: Reached) -> str:
    """Return the median seconds and how many seeds got there."""
    if reached.median_s is None:
        return f"- ({seeds_text(reached)})"
    return f"{reached.median_s:.1f} s ({seeds_text(reached)})"


def finals_text(values: list[float]) -> str:
    """Return the median and the range of final values."""
    if not values:
        return "-"
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"
