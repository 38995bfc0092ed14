"""The site builds without a warning and needs no network; its reference and numbers are the code's and the results'."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import osgan
import osgan.data
import osgan.distill
import osgan.metrics
from bench import results
from bench.analysis import speedup
from bench.results.manifest import Machine
from bench.results.rows import Arm, Context, Kernel, Point, QualityArm, Trial, Tuned

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
from generate import FILES, PROGRAMS, commands_page, results_page, suites_page  # noqa: E402


def public_names():
    modules = (osgan, osgan.distill, osgan.metrics, osgan.data)
    names = {f"{module.__name__}.{name}" for module in modules for name in module.__all__}
    submodules = {f"osgan.{name}" for name in ("losses", "nets", "regularizers", "optim")}
    return sorted(names - submodules)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_everything_public_is_in_the_reference(site):
    pages = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    assert [name for name in public_names() if f'id="{name}"' not in pages] == []


def test_the_site_needs_no_network(site):
    loads = re.compile(
        r'<(?:script|img|iframe|link rel="(?:stylesheet|preconnect|icon)")[^>]*(?:src|href)="(https?:[^"]+)'
    )
    found = {page.name: loads.findall(page.read_text()) for page in site.rglob("*.html")}
    assert {name: urls for name, urls in found.items() if urls} == {}
    assert "<math" in (site / "method.html").read_text()


def test_every_key_of_a_suite_is_explained():
    rows = [line for line in suites_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_command_is_in_the_reference():
    page = commands_page()
    for name, app in PROGRAMS.items():
        for command in typer.main.get_command(app).commands:
            assert re.search(rf"^### .*{name} {command}`", page, re.MULTILINE), command


def test_the_home_page_has_the_numbers_of_the_committed_run():
    folder = max((ROOT / "results/reference/cpu-2-cores/quick").iterdir())
    home = (ROOT / "docs/index.md").read_text()
    for summary in speedup.summarise(results.load(folder)):
        found, ceiling = summary.overall, summary.ceiling
        numbers = f"{found.estimate:.2f} ({found.low:.2f}-{found.high:.2f}) | {ceiling:.2f} |"
        assert re.search(rf"\| `{summary.baseline}`[^|]*\| {re.escape(numbers)}", home), (
            f"{summary.baseline}: {numbers}"
        )


def test_every_key_of_a_result_is_explained():
    sections = results_page().split("\n## ")
    for file, model in FILES.items():
        (rows,) = (section for section in sections if section.startswith(f"{file}\n"))
        explained = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", rows, re.MULTILINE))
        assert explained.keys() == model.model_fields.keys()
    everything = "".join(sections)
    keys = [
        key for model in (Arm, Context, Kernel, Machine, Point, QualityArm, Tuned, Trial) for key in model.model_fields
    ]
    assert [key for key in keys if f"| `{key}` |" not in everything] == []
    assert re.findall(r"^\| `\w+` \|.*\|  \|$", everything, re.MULTILINE) == []  # without a meaning
