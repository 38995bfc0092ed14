"""`python -m bench regress`: measure, judge, measure once more where that is needed, show, and end with a status."""

import contextlib
from pathlib import Path

import torch
from rich.console import Console

from bench import machine
from bench import suite as suites
from bench.execution import runner
from bench.gate import baseline as baselines_of
from bench.gate import show
from bench.gate.baseline import Baseline
from bench.gate.judge import TO_CONFIRM, Row, Status, confirm, control_is_off, judge, status_of
from bench.gate.show import Output
from bench.results.store import Run
from bench.suite.model import CONTROL
from osgan.errors import InputError

AGAIN = "not plainly ok: measuring once more, for a change of speed has to show twice"


def run(
    console: Console,
    device: torch.device,
    results_folder: Path,
    baselines: Path,
    *,
    update: bool = False,
    reason: str | None = None,
    output: Output = Output.TABLES,
) -> Status:
    """Measure the suite, print how it compares, and return how the gate ends; `update` accepts what it finds.

    Raises InputError, before anything is measured, without a baseline or, for an update, without a reason; and for a
    run that cannot be a baseline.
    """
    path = baselines / f"{baselines_of.kind(machine.describe(device))}.json"
    reason = (reason or "").strip()
    if update and not reason:
        raise InputError('a new baseline needs a reason for those who come later: --update --reason "..."')
    if reason and not update:
        raise InputError("--reason is the reason of a new baseline; give it with --update")
    baseline = None
    with contextlib.suppress(InputError) if update else contextlib.nullcontext():  # an update replaces what is broken
        baseline = baselines_of.load(path)
    measured = measure(device, results_folder)
    rows = judge(measured, baseline)
    if update:
        try:
            new = _accepted(rows, measured, reason, baseline)
        except InputError:
            _print(console, rows, measured, baseline, "this run is no baseline; the old one stays", output)
            raise
        baselines_of.write(path, new)
        _print(console, rows, measured, baseline, f"wrote {path}", output)
        return Status.PASS
    if any(row.verdict in TO_CONFIRM for row in rows):
        Console(stderr=True).print(AGAIN, markup=False, highlight=False, soft_wrap=True)
        rows = confirm(rows, judge(measure(device, results_folder), baseline))
    status = status_of(rows)
    _print(console, rows, measured, baseline, show.headline(rows, status), output)
    return status


def measure(device: torch.device, results_folder: Path) -> Run:
    """Run the gate's suite and read its results back."""
    asked = suites.load("regress")
    path = runner.start(asked, device, None, results_folder)
    return runner.finish(path, asked, device, None)


def _accepted(rows: list[Row], measured: Run, reason: str, before: Baseline | None) -> Baseline:
    for row in rows:
        if row.scheme == CONTROL and control_is_off(row):
            where = f"{measured.path} cannot be a baseline: {row.case}, {row.scheme}"
            raise InputError(f"{where}: {'; '.join(row.reasons)}; measure on a quiet machine")
    return baselines_of.baseline_of(measured, reason, before)


def _print(
    console: Console, rows: list[Row], measured: Run, baseline: Baseline | None, verdict: str, output: Output
) -> None:
    if output is Output.MARKDOWN:
        text = show.markdown(rows, measured, baseline, verdict)
        console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
    else:
        show.print_tables(console, rows, measured, baseline, verdict)
