import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import cli, results
from bench.analysis import speedup
from bench.report.document import Cell, Row, Table
from bench.report.formats import speedup_csv, speedup_latex, table_csv
from osgan.errors import InputError
from tests.bench.rows import with_

HERE = Path(__file__).parents[1]
RUN = next(HERE.glob("fixtures/format-1/verdicts/*"))
WHOLE = next(HERE.glob("fixtures/format-2/everything/*"))
OTHER = next(HERE.glob("fixtures/format-2/another-machine/*"))
ARTICLE = r"""\documentclass{article}
\usepackage{array,booktabs,longtable}
\usepackage[T1]{fontenc}
\begin{document}
%s
\end{document}
"""


def load(*paths):
    return [results.load(path) for path in paths]


def renamed(run, loss):
    """The run with another name for the loss of its first case."""
    first, *others = run.cases
    return replace(run, cases=[with_(first, case=with_(first.case, loss=loss)), *others])


def test_csv_is_the_golden_file():
    # a wanted change: python -m bench show RUN... --format csv > tests/bench/golden/speedups.csv, and read it
    assert speedup_csv(load(RUN, WHOLE, OTHER)) == (HERE / "golden" / "speedups.csv").read_text()


def test_csv_holds_every_number_as_it_is_and_nothing_where_there_is_none():
    (run,) = load(WHOLE)
    frame = pd.read_csv(io.StringIO(speedup_csv([run])), keep_default_na=False)
    found = [c for index in range(len(run.cases)) for s in speedup.summarise(run) for c in [s.comparisons[index]]]
    assert len(frame) == len(found)
    for row, comparison in zip(frame.to_dict("records"), found, strict=True):
        s = comparison.speedup
        expected = [s.estimate, s.low, s.high] if s else [None] * 3
        assert [row[name] for name in ("low", "high")] == ["" if n is None else repr(n) for n in expected[1:]]
        assert row["efficiency"] == ("" if comparison.efficiency is None else repr(comparison.efficiency))
        assert row["reason"] == (comparison.reason or "")
    assert set(frame.verdict) == {"faster", "slower", "inconclusive", "failed", "skipped"}
    assert not (frame[["speedup", "low", "high", "ceiling"]] == "0").any(axis=None)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n", "\uff1d"])
def test_no_name_becomes_a_formula_of_a_spreadsheet(start):
    name = f'{start}HYPERLINK("http://x";"y"),\n2'
    (run,) = load(RUN)
    rows = list(csv.DictReader(io.StringIO(speedup_csv([renamed(run, name)]), newline="")))
    assert rows[0]["loss"] == f"'{name}"
    table = Table("t", "t", [name, "n"], [Row([Cell("x", name), Cell("-1.5", -1.5)])])
    assert list(csv.reader(io.StringIO(table_csv(table), newline=""))) == [[f"'{name}", "n"], [f"'{name}", "-1.5"]]


@pytest.mark.parametrize(("name", "written"), [("csv", speedup_csv), ("latex", speedup_latex)])
def test_show_prints_the_format_and_nothing_else(name, written):
    done = CliRunner().invoke(cli.app, ["show", str(RUN), str(WHOLE), "--format", name])
    assert (done.exit_code, done.stdout) == (0, written(load(RUN, WHOLE)))


def test_a_table_as_csv_has_values_not_text_and_totals_last():
    rows = [
        Row([Cell("mean", "mean"), Cell("2.00", 2.0)], total=True),
        Row([Cell("a", "a"), Cell("failed", None, "a note")]),
        Row([Cell("b", "b"), Cell("0.33", 1 / 3)]),
    ]
    assert table_csv(Table("t", "t", ["case", "speedup"], rows)) == f"case,speedup\na,\nb,{1 / 3!r}\nmean,2.0\n"


def test_latex_gives_intervals_verdicts_and_means():
    (run,) = load(RUN)
    text = speedup_latex([run])
    assert text.count(r"\toprule") == 2  # the second on every page but the first
    assert re.search(r"& two\\_stage & 1\.50 \(1\.49-1\.51\) & 1\.44 \\\\", text)
    assert r"1.00 (0.70-1.00) \textasciitilde" in text
    assert r"& two\_stage\_reused & failed & - \\" in text
    assert text.count("geometric mean") == 1
    assert "Test GPU" not in text
    assert "Test GPU" in speedup_latex(load(WHOLE, OTHER))


HOSTILE = r"a_b & 100% $x$ #1 {y} ~ ^ \input{/etc/passwd} \\ <script> ``q'' | [z]"


def test_names_are_escaped_in_latex():
    (run,) = load(RUN)
    text = speedup_latex([renamed(run, f"{HOSTILE}\n\n\x1b% new line")])
    (line,) = (line for line in text.splitlines() if "passwd" in line)
    assert r"\input{" not in line
    assert r"a\_b \& 100\% \$x\$ \#1 \{y\}" in line
    assert r"\% new line" in line
    assert "\x1b" not in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here to compile the table")
@pytest.mark.parametrize("paths", [(RUN,), (WHOLE, OTHER)])
def test_latex_compiles(paths, tmp_path):
    first, *others = load(*paths)
    (tmp_path / "paper.tex").write_text(ARTICLE % speedup_latex([renamed(first, HOSTILE), *others]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-1500:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000


def test_runs_that_timed_nothing_have_no_table_of_speedups():
    (run,) = load(WHOLE)
    with pytest.raises(InputError, match=r"no case was timed.*leave --format out"):
        speedup_csv([replace(run, cases=[])])
