"""What a report says of quality, in sentences and cells: who is as good sooner, and do the cures help."""

import statistics
from collections.abc import Sequence

from bench.analysis.contests import Overall, overall
from bench.analysis.speedup import REFERENCE
from bench.analysis.statistics import Interval
from bench.analysis.time_to_quality import Reached, Sooner, Study
from bench.analysis.variants import Contrast, contrasts
from bench.report.words import interval_text


def quality_lines(found: Sequence[Study]) -> list[str]:
    """Say for each variant who is as good sooner, over all cases, and for each case what the cures do."""
    lines = []
    for variant in dict.fromkeys(study.variant for study in found):
        told = list(overall([study for study in found if study.variant == variant]))
        lines += [_sooner_sentence(variant, [o for o in told if o.scheme == s]) for s in _schemes(told)]
    for case in dict.fromkeys(study.name for study in found):
        studies = [study for study in found if study.name == case]
        if any(study.gap for study in studies):
            lines.append(f"{case}: {_gap_sentence(studies)}")
        mine = (found for found in contrasts(studies) if found.scheme == REFERENCE)
        lines += [_contrast_sentence(found) for found in mine if found.at_images or found.at_seconds]
    return lines


def _schemes(found: Sequence[Overall]) -> list[str]:
    return list(dict.fromkeys(one.scheme for one in found))


def _sooner_sentence(variant: str, found: Sequence[Overall]) -> str:
    first = found[0]
    answers = "; sooner than ".join(f"{one.role}: {sooner_text(one.time)}" for one in found)
    images = ", ".join(f"{1 / one.images.estimate:.2f}x those of {one.role}" for one in found if one.images)
    means = f"geometric means of {cases_text(first)}, " if first.num_cases > 1 else ""
    return (
        f"Time to quality, {variant}: {first.scheme} is there sooner than {answers} ({means}seeds a case: "
        f"{seeds_of(found)}; images needed: {images or 'not known'}; {there_text(found)})."
    )


def cases_text(found: Overall) -> str:
    """Return how many cases a mean is of, `6 of 7 cases` where one has no ratio."""
    lost = found.num_cases - found.num_known
    return f"{found.num_cases} cases" if not lost else f"{found.num_known} of {found.num_cases} cases"


def seeds_of(found: Sequence[Overall]) -> str:
    """Return how many seeds a case has, `3` or `3 to 8`."""
    least, most = min(one.seeds[0] for one in found), max(one.seeds[1] for one in found)
    return f"{least}" if least == most else f"{least} to {most}"


def there_text(found: Sequence[Overall]) -> str:
    """Say how many trainings of each got to the level."""
    mine, theirs = ({o.scheme: o.censored[0] for o in found}, {o.role: o.censored[1] for o in found})
    total = found[0].num_seeds
    there = [f"{total - censored} of {total} of {name}" for name, censored in {**mine, **theirs}.items()]
    return f"seeds that got there: {', '.join(there)}"


def contest_text(found: Sooner) -> str:
    """Say of one case who is as good sooner, with the ratio, its interval and the seeds."""
    return f"{found.scheme} is there sooner than {found.other}: {sooner_text(found.time)}, {found.num_seeds} seeds"


def sooner_word(time: Interval | None) -> str:
    """Return what a ratio of times in an arm's favour shows."""
    if time is None:
        return "not known"
    return "yes" if time.low > 1 else "no, later" if time.high < 1 else "not shown"


def sooner_text(time: Interval | None) -> str:
    """Return the same with the ratio."""
    return sooner_word(time) + (f", {time.estimate:.2f}x [{time.low:.2f}, {time.high:.2f}]" if time else "")


def _gap_sentence(studies: list[Study]) -> str:
    """Compare one-stage's final values under every variant with those of the reference variant's baseline."""
    words = []
    for study in studies:
        if study.gap is None:
            words.append(f"{study.variant}: not known, a run failed")
            continue
        gap = study.gap
        verdict = "closed" if gap.high <= 1 else "open" if gap.low > 1 else "closed or open, 1 is in the interval"
        words.append(f"{study.variant} {gap.estimate:.2f} [{gap.low:.2f}, {gap.high:.2f}] ({verdict})")
    baseline = f"{studies[0].reference} {studies[0].baseline}"
    return f"final value of one_stage over that of the {baseline}: {'; '.join(words)}."


def _contrast_sentence(found: Contrast) -> str:
    study = found.study
    return (
        f"{study.name}: {study.metric} of {found.scheme}, {study.variant} over {study.reference}: at equal images "
        f"{contrast_text(found.at_images)}, at equal seconds {contrast_text(found.at_seconds)}."
    )


def contrast_text(interval: Interval | None) -> str:
    """Return the ratio of two values of a metric whose lower values are better, and what it shows."""
    if interval is None:
        return "not known"
    shown = "worse" if interval.low > 1 else "better" if interval.high < 1 else "no difference shown"
    return f"{interval_text(interval)}, {shown}"


def seeds_text(reached: Reached) -> str:
    """Return `2 of 3 seeds`."""
    return f"{reached.num_reached} of {len(reached.passages)} seeds"


def seconds_text(reached: Reached) -> str:
    """Return the mean seconds and how many seeds got there; `>` where not all did."""
    if reached.seconds is None or not reached.num_reached:
        return f"- ({seeds_text(reached)})"
    bound = "" if reached.num_reached == len(reached.passages) else ">"
    return f"{bound}{reached.seconds:{'.3g' if reached.seconds < 10 else ',.1f'}} s ({seeds_text(reached)})"


def finals_text(values: list[float]) -> str:
    """Return the median and the range of final values."""
    if not values:
        return "-"
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"
