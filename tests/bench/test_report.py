import filecmp
import re
from pathlib import Path

import pytest

from bench import report, results

RUN = next(Path(__file__).parent.glob("fixtures/format-1/verdicts/*"))
GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def written(tmp_path):
    return report.write(results.load(RUN), tmp_path).parent


def test_markdown_is_the_golden_file(written):
    # a wanted change: python -m bench report RUN --reports /tmp/new, read it, and copy report.md to golden/
    assert (written / "report.md").read_text() == (GOLDEN / "report.md").read_text()


def test_the_same_run_gives_the_same_bytes(written, tmp_path):
    again = report.write(results.load(RUN), tmp_path / "again").parent
    files = [path.relative_to(written) for path in written.rglob("*") if path.is_file()]
    assert {"report.md", "index.html", "speedup.svg"} <= {str(path) for path in files}
    _, different, unreadable = filecmp.cmpfiles(written, again, files, shallow=False)
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


def test_the_page_needs_nothing_from_outside(written):
    assert not re.findall(r'(?:src|href)="(?!data:|#)', (written / "index.html").read_text())
