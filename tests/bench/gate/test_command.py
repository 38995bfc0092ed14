import json
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

from bench import cli, gate, report
from bench.gate import command
from bench.gate.judge import Status
from bench.report import formats
from bench.suite import files
from osgan.errors import InputError
from tests.bench.gate.made import record, run


@pytest.fixture
def run_gate(tmp_path, monkeypatch):
    """Run the gate on one made-up run after the other instead of measuring."""

    def run_gate(*runs, update=False, reason=None, output=gate.Output.TABLES):
        left = list(runs)
        monkeypatch.setattr(command, "measure", lambda *_: left.pop(0))
        console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
        with console.file:
            status = command.run(
                console,
                torch.device("cpu"),
                tmp_path,
                tmp_path / "baseline",
                update=update,
                reason=reason,
                output=output,
            )
        return status, console.export_text(), len(runs) - len(left)

    return run_gate


def test_an_update_is_what_the_next_run_is_held_to(run_gate, tmp_path):
    status, text, _ = run_gate(run(record()), update=True, reason=" first ")
    path = tmp_path / "baseline" / "cpu.json"
    assert status is Status.PASS
    assert f"wrote {path}" in text
    assert gate.load(path) == gate.baseline_of(run(record()), "first")
    assert run_gate(run(record()))[0] is Status.PASS


def test_an_update_keeps_the_tolerance_and_shows_what_it_replaces(run_gate, tmp_path):
    run_gate(run(record()), update=True, reason="first")
    path = tmp_path / "baseline" / "cpu.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tolerance": 0.08}))
    _, text, measured = run_gate(run(record(slower=1.3)), update=True, reason="slower, and why")
    assert "below" in text
    assert measured == 1
    assert (gate.load(path).tolerance, gate.load(path).reason) == (0.08, "slower, and why")


@pytest.mark.parametrize("factor", [1.2, 1 / 1.2])
def test_a_change_of_speed_has_to_show_twice(run_gate, factor, capsys):
    run_gate(run(record()), update=True, reason="first")
    changed, good = run(record(slower=factor)), run(record())
    status, text, measured = run_gate(changed, good)
    assert (status, measured) == (Status.PASS, 2)
    assert "not so when measured again" in text
    assert "measuring once more" in capsys.readouterr().err
    status, text, measured = run_gate(changed, changed)
    assert (status, measured) == (Status.FINDING, 2)
    assert "the gate fails: 2 of 4 rows" in text
    status, _, measured = run_gate(run(record(operators=401)), good)
    assert (status, measured) == (Status.FINDING, 1)  # what is counted is not counted again


def test_a_run_that_cannot_tell_is_measured_once_more(run_gate):
    run_gate(run(record()), update=True, reason="first")
    off, good = run(record(control=1.1)), run(record())
    assert run_gate(off, good)[::2] == (Status.PASS, 2)
    assert run_gate(off, off)[::2] == (Status.INCONCLUSIVE, 2)
    vague = run(record(noise={"two_stage": np.exp(np.linspace(-0.3, 0.3, 20))}))
    assert run_gate(vague, good)[::2] == (Status.PASS, 2)
    status, text, _ = run_gate(run(record(slower=1.2)), off)
    assert status is Status.INCONCLUSIVE
    assert "one_stage differs from itself" in text


def test_nothing_in_common_is_no_pass(run_gate):
    run_gate(run(record()), update=True, reason="first")
    assert run_gate(run(record("renamed")))[::2] == (Status.NOTHING_COMPARED, 1)


def test_markdown_is_all_that_is_printed(run_gate, capsys):
    run_gate(run(record()), update=True, reason="first")
    capsys.readouterr()
    slow = run(record(slower=1.2))
    _, text, _ = run_gate(slow, slow, output=gate.Output.MARKDOWN)
    assert text.startswith("**the gate fails: 2 of 4 rows")
    assert "measuring once more" not in text
    assert capsys.readouterr().out == ""


def test_mistakes_are_said_before_anything_is_measured(run_gate, tmp_path):
    with pytest.raises(InputError, match=r"no baseline .*cpu.json; write one with: .* --update --reason"):
        run_gate()
    for reason in (None, "", "  "):
        with pytest.raises(InputError, match="needs a reason"):
            run_gate(update=True, reason=reason)
    with pytest.raises(InputError, match="give it with --update"):
        run_gate(reason="why")
    assert not (tmp_path / "baseline").exists()


def test_an_update_replaces_what_is_broken(run_gate, tmp_path):
    path = tmp_path / "baseline" / "cpu.json"
    path.parent.mkdir()
    path.write_text("{broken")
    with pytest.raises(InputError, match="cannot be read"):
        run_gate()
    assert run_gate(run(record()), update=True, reason="replaced")[0] is Status.PASS
    assert gate.load(path).reason == "replaced"


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (run(record("a"), names=["a", "b"]), "cannot be a baseline: b, two_stage: not run"),
        (run(record(control=1.1)), "cannot be a baseline: a, control: one_stage over itself is 1.100"),
    ],
)
def test_a_run_that_cannot_be_a_baseline_is_shown_and_refused(run_gate, tmp_path, measured, message):
    run_gate(run(record()), update=True, reason="first")
    before = (tmp_path / "baseline" / "cpu.json").read_text()
    with pytest.raises(InputError, match=message):
        run_gate(measured, update=True, reason="why not")
    assert "this run is no baseline; the old one stays" in (tmp_path / "out").read_text()
    assert (tmp_path / "baseline" / "cpu.json").read_text() == before


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type a command; returns its status, what it printed and its errors."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return run_command


@pytest.mark.parametrize("status", Status)
def test_the_status_is_the_commands(typed, monkeypatch, tmp_path, status):
    monkeypatch.setattr(command, "run", lambda *_, **__: status)
    assert typed("regress", "--device", "cpu", "--results", tmp_path)[0] == int(status)


def test_bad_input_is_status_2_and_no_other_is(typed, tmp_path):
    status, printed, errors = typed("regress", "--device", "cpu", "--baselines", tmp_path, "--format", "markdown")
    assert (status, printed) == (2, "")
    assert "no baseline" in errors
    assert 2 not in list(Status)


def test_the_help_explains_every_status(typed):
    status, printed, _ = typed("regress", "--help")
    assert status == 0
    assert {"0", "1", "2", "3", "4"} <= set(printed.partition("Exit status:")[2].split())


def test_history_prints_where_its_page_is(typed, kept, tmp_path):
    page = tmp_path / "page.html"
    status, printed, _ = typed("history", "--results", kept([1.0] * 2), "--baselines", tmp_path, "--out", page)
    assert (status, printed) == (0, f"{page}\n")
    assert "<!doctype html>" in page.read_text()
    status, _, errors = typed("history", "--results", tmp_path / "none", "--baselines", tmp_path)
    assert status == 2
    assert "no run of the gate" in errors


TINY = """
name: regress
schemes: [two_stage, control, one_stage]
matrix: {dataset: digits, architecture: dcgan32+width=4, loss: hinge, batch_size: 4}
timing: {budget_s: 0.2, min_rounds: 5, round_ms: 1, warmup_s: 0.1, replicates: 1, preheat_s: 0}
samples: {steps: 0, images: 1}
"""


def test_a_real_run_measures_the_control_as_one_stage(monkeypatch, tmp_path, capsys):
    (tmp_path / "regress.yaml").write_text(TINY)
    monkeypatch.setattr(files, "SUITES", tmp_path)
    measured = command.measure(torch.device("cpu"), tmp_path / "results")
    rows = {row.scheme: row for row in gate.judge(measured, None)}
    assert rows["control"].verdict in ("ok", "inconclusive")
    assert rows["two_stage"].verdict == "new"
    arms = measured.cases[0].arms
    for count in ("flops", "operators"):
        control, mine, other = (getattr(arms[name], count) for name in ("control", "one_stage", "two_stage"))
        assert control == mine < other
    assert capsys.readouterr().out == ""  # progress is on stderr
    report.write([measured], tmp_path / "reports")
    assert "control" not in formats.speedup_csv([measured])
