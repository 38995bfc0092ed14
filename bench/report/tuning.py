"""The search for settings: what was tried for every arm, what was kept, and whether the space was wide enough."""

from collections.abc import Iterable, Iterator

from bench.analysis.tuning import Setting, chosen_settings
from bench.report.columns import Columns
from bench.report.document import Row, Table
from bench.report.tables import text_cell
from bench.report.words import number_text
from bench.results.rows import QualityRow
from bench.results.store import Run

NOTE = (
    "The same points for every arm, with seeds that are not judged; the value is the mean over them. A setting in the "
    "outer tenth of the space may have a better one outside."
)


def tables(columns: Columns) -> Iterator[Table]:
    """Yield a table for each run that searched."""
    for column in columns:
        if rows := list(_rows(column.run)):
            heads = ["training", "scheme", "tried", "kept", "at the edge of the space"]
            yield Table(f"tuning{column.suffix}", f"Tuning{column.where}", heads, rows, NOTE, folded=True)


def edge_doubts(run: Run) -> Iterator[tuple[str, str]]:
    """Yield (training, doubt) for every setting kept that lies at the edge of the space."""
    for (case, variant), rows in _searches(run.quality).items():
        for scheme, setting in chosen_settings(rows).items():
            if edges := _edges(run, setting):
                yield (
                    f"{case} / {variant}",
                    f"the setting kept for {scheme} lies at the edge of the space, where a better one may lie outside: "
                    f"{', '.join(edges)}",
                )


def _edges(run: Run, setting: Setting) -> list[str]:
    plan = run.manifest.suite.quality
    return plan.tune.edges(setting) if plan and plan.tune else []


def _rows(run: Run) -> Iterator[Row]:
    for (case, variant), rows in _searches(run.quality).items():
        kept = chosen_settings(rows)
        for scheme in dict.fromkeys(scheme for row in rows for scheme in row.tuned or {}):
            trials = [trial for row in rows for trial in (row.tuned or {})[scheme].trials]
            tried = ", ".join(
                f"{_setting(trial.setting)}: {'failed' if trial.reason else number_text(trial.value, 1)}"
                for trial in trials
            )
            edges = _edges(run, kept[scheme]) if scheme in kept else []
            texts = (f"{case} / {variant}", scheme, tried, _setting(kept.get(scheme)), ", ".join(edges) or "no")
            yield Row([text_cell(text) for text in texts])


def _searches(rows: Iterable[QualityRow]) -> dict[tuple[str, str], list[QualityRow]]:
    found: dict[tuple[str, str], list[QualityRow]] = {}
    for row in rows:
        if row.tuned:
            found.setdefault((row.case_name, row.variant), []).append(row)
    return found


def _setting(setting: dict[str, float] | None) -> str:
    return " ".join(f"{key} {value:g}" for key, value in setting.items()) if setting else "the suite's"
