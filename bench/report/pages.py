"""Fills the Markdown and HTML templates with one run. Everything that comes from a suite is escaped in both."""

import base64
import re
import shlex
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bench import results, speedup
from bench.cases import AXES
from bench.doubts import doubts
from bench.plans import Quality
from bench.quality import job_keys, job_name
from bench.report.figures import save_speedups
from bench.report.quality_figures import save_quality
from bench.report.tables import figures, kernels
from bench.report.words import (
    comparison_text,
    finals_text,
    interval_text,
    mark,
    mark_lines,
    number_text,
    outcome_text,
    override_lines,
    quality_lines,
    seconds_text,
    share_text,
    verdict_lines,
)
from bench.results import Record, Run
from bench.speedup import Summary
from bench.split import PHASES
from bench.targets import outcomes
from bench.time_to_quality import COLLAPSE, Study, studies

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class SampleRow:
    """The grids of one case: scheme and file, relative to the run."""

    case: str
    grids: list[tuple[str, str]]


def write(run: Run, parent: Path) -> Path:
    """Write report.md, index.html and their pictures to `parent`/<suite>/<run>/ and return the HTML page's path."""
    folder = parent / run.path.parent.name / run.path.name
    folder.mkdir(parents=True, exist_ok=True)
    summaries = speedup.summarise(run)
    save_speedups(summaries, [short_name(record, run) for record in run.cases], folder / "speedup.svg")
    if (run.path / "samples").is_dir() and folder.resolve() != run.path.resolve():
        shutil.copytree(run.path / "samples", folder / "samples", dirs_exist_ok=True)
    found = studies(run)
    for index, study in enumerate(found):
        save_quality(study, folder / f"quality-{index}.svg")
    context = {
        "run": run,
        "manifest": run.manifest,
        "machine": run.manifest["machine"],
        "summaries": summaries,
        "names": [short_name(record, run) for record in run.cases],
        "verdict": [
            *mark_lines([*run.cases, *run.quality]),
            *(verdict_lines(summaries) if run.cases or not found else []),
            *quality_lines(found),
        ],
        "studies": found,
        "study_name": lambda study: study_name(study, run),
        "tuned": _tuned(run),
        "samples": _samples(run),
        "problems": problems(run),
        "doubts": case_doubts(run, summaries),
        "phases": [(phase, phase.replace("_", " ")) for phase in PHASES],
        "split": any(arm.get("split_ms") for record in run.cases for arm in record["arms"].values()),
        "tables": figures(run),
        "kernels": kernels(run),
        "outcomes": outcomes(run),
        "command": _command(run),
        "common": _common(run) | _n_critic(run),
    }
    for template, name in (("report.md.jinja", "report.md"), ("report.html.jinja", "index.html")):
        environment = _environment(folder, html=name.endswith(".html"))
        results.write_atomically(folder / name, environment.get_template(template).render(context))
    return folder / "index.html"


def short_name(record: Record, run: Run) -> str:
    """Return a case's name without the axes on which all cases of the run agree."""
    common = _common(run)
    kept = [str(record["case"][axis]) for axis in AXES if axis not in common]
    return (", ".join(kept) or record["case"]["loss"]) + mark(record)


def study_name(study: Study, run: Run) -> str:
    """Return the short name of a study's case, and its variant."""
    record = next(r for r in run.quality if r["name"].startswith(f"{study.name} / ") and r.get("arms"))
    return f"{short_name(record, run)}, {study.variant}"


def _common(run: Run) -> dict[str, Any]:
    cases = [record["case"] for record in (*run.cases, *run.quality)]
    return {axis: cases[0][axis] for axis in AXES if len({case[axis] for case in cases}) == 1} if cases else {}


def _n_critic(run: Run) -> dict[str, int]:
    n_critic = run.manifest["suite"]["optimizer"].get("n_critic", 1)
    return {"n_critic": n_critic} if n_critic > 1 else {}


def case_doubts(run: Run, summaries: list[Summary]) -> list[tuple[str, str]]:
    """Return (case, doubt) for every doubt about every case."""
    return [
        (short_name(record, run), doubt)
        for index, record in enumerate(run.cases)
        for doubt in doubts(record, [summary.comparisons[index] for summary in summaries])
    ]


def _tuned(run: Run) -> list[tuple[str, str, str]]:
    """Return (job, scheme, what was tried and chosen) of every search."""
    rows = []
    for record in run.quality:
        for scheme, found in (record.get("tuned") or {}).items():
            trials = ", ".join(
                f"{_setting(trial['setting'])}: {'failed' if trial['reason'] else number_text(trial['value'], 1)}"
                for trial in found["trials"]
            )
            rows.append((record["name"], scheme, f"{trials}; kept {_setting(found['setting'])}"))
    return rows


def _setting(setting: dict[str, float] | None) -> str:
    return " ".join(f"{key} {value:g}" for key, value in setting.items()) if setting else "the suite's"


def _samples(run: Run) -> list[SampleRow]:
    rows = []
    for record in run.cases:
        grids = [("real", record.get("real_samples"))]
        grids += [(scheme, arm.get("samples")) for scheme, arm in record["arms"].items()]
        if shown := [(scheme, path) for scheme, path in grids if path and (run.path / path).is_file()]:
            rows.append(SampleRow(short_name(record, run), shown))
    for record in run.quality:
        grids = [(scheme, arm.get("samples")) for scheme, arm in record.get("arms", {}).items()]
        if shown := [(scheme, path) for scheme, path in grids if path and (run.path / path).is_file()]:
            rows.append(SampleRow(record["name"], shown))
    return rows


def problems(run: Run) -> list[str]:
    """Say what failed, was skipped, was repaired in reading, or has not run yet, a line each."""
    lines = list(run.remarks)
    for record in run.cases:
        if not record["arms"]:
            lines.append(f"{record['name']}: {record['status']}: {record['reason']}")
        lines += [
            f"{record['name']}, {scheme}: {arm['status']}: {arm['reason']}"
            for scheme, arm in record["arms"].items()
            if arm["status"] != "ok"
        ]
    for record in run.quality:
        if record["status"] != "ok":
            lines.append(f"{record['name']}: {record['status']}: {record['reason']}")
        lines += [
            f"{record['name']}, {scheme}: trained without what was asked for: {cause}"
            for scheme, arm in record.get("arms", {}).items()
            for cause in arm.get("fallbacks") or ()
        ]
    if missing_jobs := missing_quality(run):
        lines.append(f"{len(missing_jobs)} trainings not run yet, the first: {missing_jobs[0]}")
    lines += override_lines([*run.cases, *run.quality])
    if run.manifest["suite"].get("timing", True) is None:
        return lines
    missing = set(run.manifest["cases"]) - {record["name"] for record in run.cases}
    lines += [f"{name}: not run yet" for name in run.manifest["cases"] if name in missing]
    return lines


def missing_quality(run: Run) -> list[str]:
    """Return the names of the quality jobs that the suite asks for and the run does not have."""
    plan = run.manifest["suite"].get("quality")
    if not plan:
        return []
    done = {record["name"] for record in run.quality}
    names = (job_name(*key) for key in job_keys(run.manifest["cases"], Quality.model_validate(plan)))
    return [name for name in names if name not in done]


def _median_ms(record: Record, scheme: str) -> float | None:
    times = record["arms"].get(scheme, {}).get("wall_ms")
    return statistics.median(times) if times else None


def _command(run: Run) -> str:
    manifest = run.manifest
    words = [f"make bench SUITE={manifest['suite']['name']} DEVICE={manifest['machine']['device']}"]
    options = [f"--{kind} {shlex.quote(p)}" for kind, patterns in manifest["selection"].items() for p in patterns]
    if manifest["suite"]["seed"]:
        options.append(f"--seed {manifest['suite']['seed']}")
    return " ".join([*words, *([f"ARGS={shlex.quote(' '.join(options))}"] if options else [])])


def _environment(folder: Path, *, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "share": share_text,
        "outcome": outcome_text,
        "number": number_text,
        "interval": interval_text,
        "comparison": comparison_text,
        "md": _escape_markdown,
    }
    environment.globals |= {
        "median_ms": _median_ms,
        "finals": finals_text,
        "seconds": seconds_text,
        "collapse": COLLAPSE,
    }
    environment.globals["picture"] = lambda path: _data_url(folder / path)
    return environment


def _escape_markdown(text: object) -> str:
    single_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|~&!])", r"\\\1", single_line)


def _data_url(path: Path) -> str:
    kind = "image/svg+xml" if path.suffix == ".svg" else "image/png"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
