"""How soon an arm is as good as another: images, time, distance at equal seconds, a row a case and their means."""

from collections.abc import Iterator

from bench.analysis.contests import Overall, overall
from bench.analysis.passage import smallest_difference
from bench.analysis.statistics import Interval
from bench.analysis.time_to_quality import Sooner, Study
from bench.report.columns import Column, Columns
from bench.report.document import Cell, Row, Table
from bench.report.quality_words import cases_text, seeds_of
from bench.report.tables import text_cell
from bench.report.words import interval_text, number_text

HEADS = [
    "training",
    "scheme",
    "over",
    "images to the level",
    "time to the level",
    "distance at equal seconds",
    "seeds that got there",
    "would have shown",
]


def tables(columns: Columns, column: Column) -> Iterator[Table]:
    """Yield the table, if the run has a level to reach."""
    rows = [
        _row(columns.study_name(column, study).removesuffix(column.where), contest, contest.other)
        for study in column.studies
        for contest in study.contests()
    ]
    for variant in dict.fromkeys(study.variant for study in column.studies):
        found = overall([study for study in column.studies if study.variant == variant])
        rows += [
            _row(
                f"geometric mean of {cases_text(one)}, {variant}",
                one,
                one.role,
                f" ({seeds_of([one])} a case)",
                total=True,
            )
            for one in found
            if one.num_cases > 1
        ]
    if rows:
        yield Table(f"how-soon{column.suffix}", f"How soon as good{column.where}", HEADS, rows, _note(column.studies))


def _note(studies: list[Study]) -> str:
    timed = [study.pace.timed for study in studies]
    pace = (
        "A step takes what the interleaved rounds of the same case say."
        if all(timed)
        else "A step takes what the trainings' own clocks say, whose arms took turns."
        if not any(timed)
        else "A step takes what the interleaved rounds of the same case say, and where a case was not timed, what the "
        "trainings' own clocks say."
    )
    return (
        "Ratios of the other scheme's over the scheme's own, above 1 in its favour: of the mean images to the first "
        "level, of the mean time, which is images times the time of a step, and of the metric at equal seconds. "
        f"{pace} Student's t over the seeds, paired. A seed that is not there counts with all its images, and every "
        "time is cut off where the faster arm ends: ratios then err towards 1. None is taken where more than a quarter "
        "of an arm's seeds are there at the first evaluation already. Would have shown: the least ratio of times that "
        "so many seeds show four times in five."
    )


def _row(name: str, found: Sooner | Overall, over: str, seeds: str = "", *, total: bool = False) -> Row:
    cells = [
        text_cell(name),
        text_cell(found.scheme),
        text_cell(over),
        ratio_cell(found.images),
        ratio_cell(found.time),
        ratio_cell(found.distance),
        text_cell(f"{_there(found)}{seeds}"),
        _least(found.time),
    ]
    return Row(cells, total)


def _there(found: Sooner | Overall) -> str:
    mine, theirs = (found.num_seeds - censored for censored in found.censored)
    early = "{} and {}".format(*found.at_first) if any(found.at_first) else ""
    return f"{mine} and {theirs} of {found.num_seeds}" + (f", {early} at the first evaluation" if early else "")


def ratio_cell(ratio: Interval | None) -> Cell:
    """Return a ratio with its interval, marked ~ if it shows no difference."""
    if ratio is None:
        return Cell("-", None)
    return Cell(f"{interval_text(ratio)}{' ~' if ratio.low <= 1 <= ratio.high else ''}", ratio.estimate)


def _least(time: Interval | None) -> Cell:
    least = smallest_difference(time) if time else None
    return Cell(number_text(least), least)
