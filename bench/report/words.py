"""The sentences and number formats of the report and of the terminal: one wording for both."""

from collections.abc import Sequence

from bench.analysis.speedup import (
    CLAIMED,
    CONFIDENCE,
    PAPER_BASELINE,
    STRONGEST_BASELINE,
    Comparison,
    Summary,
)
from bench.analysis.statistics import Interval
from bench.analysis.targets import Outcome
from bench.results.manifest import Optimizers
from bench.results.rows import AnyRow


def number_text(value: float | None, digits: int = 2) -> str:
    """Return a number, or a dash for one that is missing."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval_text(interval: Interval | None) -> str:
    """Return `1.42 (1.40-1.44)`, or nothing for a missing interval."""
    return "" if interval is None else f"{interval.estimate:.2f} ({interval.low:.2f}-{interval.high:.2f})"


def share_text(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.1f} %"


def options_of(optimizer: Optimizers) -> list[str]:
    """Return what a suite asked of its optimizers that is not the default: `n_critic 5`, `generator_clip 1`."""
    fields = type(optimizer).model_fields.items()
    asked = [(name, getattr(optimizer, name)) for name, field in fields if getattr(optimizer, name) != field.default]
    return [f"{name} {value:g}" for name, value in asked]


def outcome_text(outcome: Outcome) -> str:
    """Return what was measured for a target, with its interval, of how many cases, or a dash."""
    found = outcome.measured
    if found is None:
        return "-"
    if outcome.worst is None:
        text = interval_text(found)
    else:
        text = f"{share_text(found.estimate)} ({share_text(found.low)} to {share_text(found.high)}), {outcome.worst}"
    return f"{text}; {outcome.num_measured} of {outcome.num_cases} cases"


def target_lines(found: list[Outcome]) -> list[str]:
    """Say of each target whether it is met."""
    return [f"target: {o.target}: {o.verdict}" + (f", {outcome_text(o)}" if o.measured else "") for o in found]


def comparison_text(comparison: Comparison) -> str:
    """Return the speedup and its interval, marked ~ if inconclusive, or the verdict where there is no number."""
    mark = " ~" if comparison.verdict == "inconclusive" else ""
    return (interval_text(comparison.speedup) or comparison.verdict) + mark


def mark(row: AnyRow) -> str:
    """Return what follows the name of a case, in every table, whose arms are not what their names say."""
    arms = row.arms.values()
    fell_back = any(arm.ran_as for arm in arms)
    return (" \u2020" if fell_back else "") + (" UNMATCHED" if any(arm.overrides for arm in arms) else "")


def mark_lines(rows: Sequence[AnyRow]) -> list[str]:
    """Explain the marks that these rows bear."""
    lines = []
    unmatched = {row.case_name for row in rows if mark(row).endswith("UNMATCHED")}
    if unmatched:
        lines.append(
            f"UNMATCHED: in {len(unmatched)} case(s) the arms differ in more than the scheme, as the suite's "
            "overrides say; a difference between them is no measure of one-stage training."
        )
    if any("\u2020" in mark(row) for row in rows):
        lines.append(
            "\u2020 one_stage is not exact for this discriminator and loss and ran as simultaneous, the suite's "
            "fallback; no mean counts such a case."
        )
    return lines


def override_lines(rows: Sequence[AnyRow]) -> list[str]:
    """Say what was overridden, a line for each arm."""
    lines = []
    for row in rows:
        for scheme, arm in row.arms.items():
            if arm.overrides:
                listed = ", ".join(f"{key} {value}" for key, value in arm.overrides.items())
                lines.append(f"{row.name}, {scheme}: UNMATCHED: {listed}")
            if arm.ran_as:
                lines.append(f"{row.name}, {scheme}: ran as {arm.ran_as}: {arm.ran_as_because or '-'}")
    return lines


ROLES = {PAPER_BASELINE: "the paper's baseline", STRONGEST_BASELINE: "the strongest two-stage step"}


def verdict_lines(summaries: list[Summary], where: str) -> list[str]:
    """Say in one sentence what the run shows on this machine and whether the claim of 1.5x holds; then of what."""
    by_name = {summary.baseline: summary for summary in summaries}
    told = [by_name[name] for name in ROLES if name in by_name]
    if not told:
        return ["No two-stage baseline was measured, so there is no verdict."]
    measured = [summary for summary in told if summary.overall]
    lines = []
    if measured:
        claim = f"; {_claim(by_name[PAPER_BASELINE])}" if PAPER_BASELINE in by_name else ""
        lines.append(f"A one-stage step is {' and '.join(map(_found, measured))} on {where}{claim}.")
        lines.append(" ".join(map(_counted, measured)))
    return lines + [
        f"Against {summary.baseline} ({ROLES[summary.baseline]}) nothing could be measured on {where} "
        f"({_tally(summary)})."
        for summary in told
        if not summary.overall
    ]


def _found(summary: Summary) -> str:
    overall = summary.overall
    assert overall is not None
    word = "faster" if overall.low > 1 else "slower" if overall.high < 1 else "neither faster nor slower"
    return (
        f"{word} than {summary.baseline} ({ROLES[summary.baseline]}), {overall.estimate:.3f}x "
        f"[{overall.low:.3f}, {overall.high:.3f}],"
    )


def _claim(summary: Summary) -> str:
    if summary.claim() == "one process":
        return f"one process a case gives no verdict on the claim of {CLAIMED}x"
    said = {"holds": "holds", "holds not": "does not hold", "undecided": "is undecided"}[summary.claim()]
    return f"the claim of {CLAIMED}x against {summary.baseline} {said} there at {CONFIDENCE:.0%} confidence"


def _counted(summary: Summary) -> str:
    count = len(summary.measured)
    of = f"geometric mean of {count} cases{_spread(summary)}" if count > 1 else "one case"
    ceiling = f"FLOP ceiling {number_text(summary.ceiling, 3)}"
    return f"{summary.baseline}: {of}, {_processes(summary)}, {ceiling}; {_tally(summary)}."


def _spread(summary: Summary) -> str:
    assert summary.range is not None
    low, middle, high = summary.range
    return f" (median {middle:.3f}, from {low:.3f} to {high:.3f})"


def _processes(summary: Summary) -> str:
    assert summary.overall is not None
    number = summary.overall.num_processes
    return f"{number} processes a case" if number > 1 else "one process a case"


def _tally(summary: Summary) -> str:
    counts: dict[str, int] = {}
    for comparison in summary.comparisons:
        outcome = f"run as {comparison.ran_as}" if comparison.ran_as else comparison.verdict
        counts[outcome] = counts.get(outcome, 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no case"
