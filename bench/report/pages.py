"""Fills the Markdown and HTML templates with one run. Everything that comes from a suite is escaped in both."""

import base64
import re
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bench import results, speedup
from bench.report.figures import save_speedups
from bench.report.words import comparison_text, interval_text, number_text, verdict_lines
from bench.results import Record, Run
from bench.suite import AXES

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
    if (run.path / "samples").is_dir():
        shutil.copytree(run.path / "samples", folder / "samples", dirs_exist_ok=True)
    context = {
        "run": run,
        "manifest": run.manifest,
        "machine": run.manifest["machine"],
        "summaries": summaries,
        "names": [short_name(record, run) for record in run.cases],
        "verdict": verdict_lines(summaries),
        "samples": _samples(run),
        "problems": _problems(run),
        "command": _command(run),
        "common": _common(run),
    }
    for template, name in (("report.md.jinja", "report.md"), ("report.html.jinja", "index.html")):
        environment = _environment(folder, html=name.endswith(".html"))
        results.write_atomically(folder / name, environment.get_template(template).render(context))
    return folder / "index.html"


def short_name(record: Record, run: Run) -> str:
    """Return a case's name without the axes on which all cases of the run agree."""
    common = _common(run)
    kept = [str(record["case"][axis]) for axis in AXES if axis not in common]
    return ", ".join(kept) or record["case"]["loss"]


def _common(run: Run) -> dict[str, Any]:
    cases = [record["case"] for record in run.cases]
    return {axis: cases[0][axis] for axis in AXES if len({case[axis] for case in cases}) == 1} if cases else {}


def _samples(run: Run) -> list[SampleRow]:
    rows = []
    for record in run.cases:
        grids = [("real", record.get("real_samples"))]
        grids += [(scheme, arm.get("samples")) for scheme, arm in record["arms"].items()]
        if shown := [(scheme, path) for scheme, path in grids if path and (run.path / path).is_file()]:
            rows.append(SampleRow(short_name(record, run), shown))
    return rows


def _problems(run: Run) -> list[str]:
    problems = list(run.remarks)
    for record in run.cases:
        if not record["arms"]:
            problems.append(f"{record['name']}: {record['status']}: {record['reason']}")
        problems += [
            f"{record['name']}, {scheme}: {arm['status']}: {arm['reason']}"
            for scheme, arm in record["arms"].items()
            if arm["status"] != "ok"
        ]
    missing = set(run.manifest["cases"]) - {record["name"] for record in run.cases}
    problems += [f"{name}: not run yet" for name in run.manifest["cases"] if name in missing]
    return problems


def _median_ms(record: Record, scheme: str) -> float | None:
    times = record["arms"].get(scheme, {}).get("wall_ms")
    return statistics.median(times) if times else None


def _command(run: Run) -> str:
    return f"make bench SUITE={run.manifest['suite']['name']} DEVICE={run.manifest['machine']['device']}"


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
        "number": number_text,
        "interval": interval_text,
        "comparison": comparison_text,
        "md": _escape_markdown,
    }
    environment.globals["median_ms"] = _median_ms
    environment.globals["picture"] = lambda path: _data_url(folder / path)
    return environment


def _escape_markdown(text: object) -> str:
    single_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|~&!])", r"\\\1", single_line)


def _data_url(path: Path) -> str:
    kind = "image/svg+xml" if path.suffix == ".svg" else "image/png"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
