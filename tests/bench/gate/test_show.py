import numpy as np
import pytest
from rich.console import Console

from bench import gate
from bench.gate import show
from bench.gate.judge import Status
from tests.bench.gate.made import record, run

BASELINE = gate.baseline_of(run(record()), "a test's")
LONG = "digits dcgan32+width=16+norm=group nonsaturating 32 fp32 eager"


def _printed(measured, baseline=BASELINE):
    rows = gate.judge(measured, baseline)
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        show.print_tables(console, rows, measured, baseline, show.headline(rows, gate.status_of(rows)))
        return console.export_text()


def test_the_table_fits_80_columns_and_says_what_differs():
    made = record(LONG, operators=402, flops=10**9)
    text = _printed(run(record(slower=1.2), made, cpu="Another CPU"))
    said = ("inconclusive:", "control:", "more", "another", "baseline:", "the gate")
    table = [line for line in text.splitlines() if not line.startswith(said)]
    assert max(map(len, table)) <= 80
    assert "inconclusive: a, two_stage: 1.17 (1.17-1.17) ends below 1.316, 6% under the baseline" in text
    assert "control: a: one_stage over itself 1.000 (1.000-1.000), +0.0% from the first third" in text
    assert "another cpu: the baseline is of 'Some CPU', this is 'Another CPU'" in text
    assert "baseline: 2026-11-22, commit abc, torch 2.15.0: a test's" in text
    assert "new" in text
    assert text.splitlines()[-1].startswith("the gate cannot tell: 2 of 8 rows are inconclusive")


def test_another_torch_and_a_cases_own_tolerance_are_said():
    own = BASELINE.model_copy(update={"cases": {"a": BASELINE.cases["a"].model_copy(update={"tolerance": 0.123})}})
    text = _printed(run(record(), torch_version="2.16.0"), own)
    assert "work not compared: baseline is of torch 2.15.0, this is 2.16.0" in text
    assert "tolerance of a: 12.3%, the file's is 6.0%" in text
    assert "work not compared" not in _printed(run(record()))


@pytest.mark.parametrize(
    ("made", "status", "said"),
    [
        (record(), Status.PASS, "the gate passes: 4 rows"),
        (record(operators=401), Status.FINDING, "the gate fails: 1 of 4 rows"),
        (record("other"), Status.NOTHING_COMPARED, "compared nothing, which is no pass"),
        (record(control=1.05), Status.INCONCLUSIVE, "one_stage differs from itself on this machine now"),
        (
            record(noise={"two_stage": np.exp(np.linspace(-0.3, 0.3, 20))}),
            Status.INCONCLUSIVE,
            "1 of 4 rows are inconclusive",
        ),
    ],
)
def test_the_verdict_is_said_in_a_line(made, status, said):
    rows = gate.judge(run(made), BASELINE)
    assert gate.status_of(rows) is status
    assert said in show.headline(rows, status)


def test_markdown_has_the_verdict_first_then_one_table_and_what_is_to_be_known():
    name = "a|b <script> *x* $y$ @z"
    both = gate.baseline_of(run(record(), record(name)), "a_b | c")
    measured = run(record(slower=1.2), record(name))
    rows = gate.judge(measured, both)
    text = show.markdown(rows, measured, both, show.headline(rows, gate.status_of(rows)))
    lines = text.splitlines()
    assert lines[0].startswith("**the gate fails: 2 of 8 rows.")
    assert lines[2] == "| case | scheme | speedup | was | work | verdict |"
    assert lines[3] == "| --- | --- | --: | --: | --- | --- |"
    assert lines[4] == "| a | two\\_stage | 1.17 (1.17-1.17) | 1.40 | same | **below** |"
    assert lines[8].startswith("| a\\|b \\<script\\> \\*x\\* \\$y\\$ \\@z | two\\_stage | 1.40 ")
    assert "| a | control | 1.00 (1.00-1.00) | 1.00 | - | ok |" in lines
    assert lines[13].startswith("- below: a, two\\_stage: ")
    assert lines[-1].startswith("- baseline: 2026-11-22, commit abc, torch 2.15.0: a\\_b \\| c")
    assert text.endswith("\n")
