"""What a report says, and in which order; and its folder with everything that it shows."""

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import results
from bench.analysis.targets import outcomes
from bench.report import (
    endings,
    figures,
    html,
    markdown,
    paper,
    penalties,
    quality,
    resources,
    scaling,
    speedups,
    times,
)
from bench.report.columns import Column, Columns, columns_of
from bench.report.document import Cell, Document, Row, Section, Table
from bench.report.quality_words import quality_lines
from bench.report.tables import text_cell
from bench.report.words import mark_lines, outcome_text, verdict_lines
from bench.results.files import plain_files
from bench.results.store import Run
from osgan.errors import InputError

TARGETS = (
    "Stated in the suite beforehand. A mean has its interval; where every case counts, the one furthest from the "
    "target is shown."
)


def document(runs: Sequence[Run]) -> Document:
    """Return the report of one run, or of several side by side; its figures are not drawn yet."""
    return _document(columns_of(runs))


def _document(columns: Columns) -> Document:
    names = dict.fromkeys(run.manifest.suite.name for run in columns.runs)
    sections = [
        _targets(columns),
        *speedups.sections(columns),
        times.section(columns),
        penalties.section(columns),
        resources.memory(columns),
        resources.energy(columns),
        scaling.section(columns),
        quality.section(columns),
        endings.samples(columns),
        paper.section(columns),
        endings.doubtful(columns),
        endings.machine(columns),
        endings.raw_data(columns),
    ]
    return Document(
        f"{', '.join(names)}: one-stage against two-stage GAN training",
        verdict(columns),
        [section for section in sections if section.blocks],
    )


def verdict(columns: Columns) -> list[str]:
    """Return the first lines: speed and the claim by machine, what the marks mean, quality."""
    lines = []
    for column in columns:
        if column.timed:
            lines += verdict_lines(column.summaries, column.label)
    lines += mark_lines([row for run in columns.runs for row in run.rows])
    for column in columns:
        lines += [line if columns.alone else f"{column.label}: {line}" for line in quality_lines(column.studies)]
    return lines


def _targets(columns: Columns) -> Section:
    tables = [table for column in columns if (table := _targets_of(column))]
    return Section("targets", "Targets", tables)


def _targets_of(column: Column) -> Table | None:
    rows = [
        Row(
            [
                text_cell(outcome.target),
                Cell(outcome_text(outcome), outcome.measured.estimate if outcome.measured else None),
                text_cell(outcome.verdict),
            ]
        )
        for outcome in outcomes(column.run)
    ]
    if not rows:
        return None
    title = f"What the suite asks for{column.where}"
    return Table(f"targets{column.suffix}", title, ["target", "measured", "verdict"], rows, TARGETS)


def write(runs: Sequence[Run], parent: Path, *, out: Path | None = None) -> Path:
    """Write report.md, index.html, figures, samples and the raw data of the runs, and return the HTML page's path.

    The folder is `out`, else `parent`/<suite>/<run>, of several runs `parent`/merged/<newest>_<n>-runs_<digest>.
    What stands there is replaced once all is written, the page last. Raises InputError for a folder that cannot be
    made or written to.
    """
    columns = columns_of(runs)
    folder = out or parent / _place(columns.runs)
    report = _document(columns)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=folder, ignore_cleanup_errors=True) as name:
            unfinished = Path(name)
            report = _document(columns)
            figures.save(report, unfinished)
            for raw, run in zip(endings.raw_folders(columns), columns.runs, strict=True):
                if (folder / raw).resolve() != run.path.resolve():  # the report may be written into the run itself
                    _copy(run.path, unfinished / raw)
            results.write_atomically(unfinished / "report.md", markdown.render(report))
            results.write_atomically(unfinished / "index.html", html.render(report, unfinished, folder))
            _move(unfinished, folder)
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()  # if nothing is in it
        raise InputError(
            f"cannot write a report to {folder}: {error.strerror or error}; {results.remedy(error)} or choose another "
            f"place with --out or --reports: python -m bench report {' '.join(str(run.path) for run in columns.runs)}"
        ) from None
    return folder / "index.html"


def _move(unfinished: Path, folder: Path) -> None:
    files = sorted(path.relative_to(unfinished) for path in unfinished.rglob("*") if path.is_file())
    for file in sorted(files, key=lambda file: file == Path("index.html")):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / file).replace(folder / file)


def _place(runs: Sequence[Run]) -> Path:
    if len(runs) == 1:
        return Path(runs[0].path.parent.name) / runs[0].path.name
    stamp = runs[-1].path.name.split("_")[0]
    digest = hashlib.sha256("\n".join(run.path.name for run in runs).encode()).hexdigest()[:8]
    return Path("merged") / f"{stamp}_{len(runs)}-runs_{digest}"


def _copy(run: Path, folder: Path) -> None:
    """Copy raw results and sample grids, but no link, which a run that somebody else sent may hold."""
    for name in plain_files(run)[0]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, folder / name)
