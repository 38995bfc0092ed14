import filecmp
import re
from pathlib import Path

import pytest

from bench import report, results

HERE = Path(__file__).parent
RUN = next(HERE.glob("fixtures/format-1/verdicts/*"))
WHOLE = next(HERE.glob("fixtures/format-2/everything/*"))  # quality, kernels, targets


@pytest.fixture
def written(tmp_path):
    return report.write(results.load(RUN), tmp_path).parent


@pytest.fixture
def whole(tmp_path):
    return report.write(results.load(WHOLE), tmp_path).parent


@pytest.mark.parametrize(("run", "golden"), [(RUN, "report.md"), (WHOLE, "report-format-2.md")])
def test_markdown_is_the_golden_file(run, golden, tmp_path):
    # a wanted change: python -m bench report RUN --reports /tmp/new, read it, and copy report.md to golden/
    page = report.write(results.load(run), tmp_path)
    assert page.with_name("report.md").read_text() == (HERE / "golden" / golden).read_text()


@pytest.mark.parametrize("run", [RUN, WHOLE])
def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    first, again = (report.write(results.load(run), tmp_path / name).parent for name in ("first", "again"))
    files = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert {"report.md", "index.html", "speedup.svg"} <= {str(path) for path in files}
    _, different, unreadable = filecmp.cmpfiles(first, again, files, shallow=False)
    assert (different, unreadable) == ([], [])


def test_html_and_markdown_hold_the_same_numbers(written):
    page, text = (written / "index.html").read_text(), (written / "report.md").read_text()
    numbers = re.findall(r"\d\.\d\d \(\d\.\d\d-\d\.\d\d\)", text.replace("\\", ""))
    assert len(numbers) > 10
    assert re.findall(r"\d\.\d\d \(\d\.\d\d-\d\.\d\d\)", page) == numbers


def test_every_kind_of_row_is_shown(written):
    text = (written / "report.md").read_text().replace("\\", "")
    assert " ~, ceiling" in text
    assert "NonFiniteLossError: generator_loss of lsgan is nan at step 7" in text
    assert "skipped: one-stage training is not exact here" in text
    assert "killed by signal 9" in text
    assert "digits never run: not run yet" in text


def test_names_from_a_suite_are_escaped(written):
    page = (written / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;|alert*[x](y)" in page
    assert "<script>" not in (written / "report.md").read_text()
    assert r"\<script\>\|alert\*\[x\](y)" in (written / "report.md").read_text()


@pytest.mark.parametrize("run", [RUN, WHOLE])
def test_the_page_needs_nothing_from_outside(run, tmp_path):
    page = report.write(results.load(run), tmp_path).read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_targets_stand_right_after_the_verdict(whole):
    text = (whole / "report.md").read_text()
    assert text.index("The claim of 1.5x") < text.index("## Targets") < text.index("## Speedup")
    verdicts = re.findall(r"^\|.*\| (met|not met|inconclusive|not measured) \|$", text, re.MULTILINE)
    assert verdicts == ["met", "met", "met", "not met", "not measured"]
    page = (whole / "index.html").read_text()
    assert re.findall(r"<td>(met|not met|inconclusive|not measured)</td>", page) == verdicts


def test_a_suite_without_targets_and_a_run_without_a_profile_say_nothing_of_them(written):
    for name in ("report.md", "index.html"):
        text = (written / name).read_text()
        assert not re.search("Targets|GPU's time|GPU is idle|matrix product|Quality over time", text)


def test_kernels_are_short_in_markdown_and_whole_in_html(whole):
    text, page = ((whole / name).read_text() for name in ("report.md", "index.html"))
    assert "the seventh" not in text
    assert page.count("<td>1.0 %</td>") == page.count("<details>") == 3
    assert "tile\\_128x128, til... |" in text
    assert "tile_128x128, true&gt;(Params)" in page


def test_failures_of_seeds_and_engines_are_shown(whole):
    text = (whole / "report.md").read_text().replace("\\", "")
    assert "seed 2: failed: two_stage: NonFiniteLossError: generator_loss of nonsaturating is nan at step 31" in text
    assert "seed 2, one_stage: trained without what was asked for: cuda_graph is not possible here: a <reason>" in text
    assert "the arms did not have the same engine: two_stage: compile is not possible here" in text
    assert "28 trainings not run yet" in text
    assert "| 1, 0 |" in text  # failed
    assert "| 0, 1 |" in text  # collapsed
