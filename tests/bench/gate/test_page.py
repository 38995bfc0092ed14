import re

import pytest

from bench import gate
from osgan.errors import InputError

STEPPED = [1.0] * 6 + [1.12] * 5


def test_the_page_says_the_steps_first_and_needs_no_other_file(kept, tmp_path):
    out = tmp_path / "page" / "index.html"
    assert gate.write_history(kept(STEPPED), tmp_path, out) == out
    assert [file.name for file in out.parent.iterdir()] == ["index.html"]
    text = out.read_text()
    verdict = re.search(r'<div class="verdict">.*?</div>', text, re.S).group()
    assert "2 steps in 6 series of up to 11 measurements on Some CPU, 2 threads." in verdict
    assert re.search(r"two_stage, a: from 1\.\d+ to 1\.\d+ \(-1\d\.\d%\) at commit 01c0000006, 2026-11-01", verdict)
    assert text.count("data:image/svg+xml") >= 6
    assert "one_stage over itself (control)" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_no_step_is_said_and_the_same_runs_make_the_same_page(kept, tmp_path):
    folder = kept([1.0] * 5)
    first, second = (gate.write_history(folder, tmp_path, tmp_path / name / "index.html") for name in "ab")
    assert "No step in 6 series of up to 5 measurements" in first.read_text()
    assert first.read_bytes() == second.read_bytes()


def test_machines_have_sections_of_their_own(kept, tmp_path):
    kept([1.0] * 2, day=1)
    text = gate.write_history(kept([1.0] * 2, cpu="<b>CPU", day=2), tmp_path, tmp_path / "page.html").read_text()
    assert "a on Some CPU, 2 threads" in text
    assert "a on &lt;b&gt;CPU, 2 threads" in text
    assert "<b>CPU" not in text


def test_a_page_that_cannot_be_written_is_a_mistake(kept, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another file with --out"):
        gate.write_history(kept([1.0] * 2), tmp_path, tmp_path / "file" / "index.html")
