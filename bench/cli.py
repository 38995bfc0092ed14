"""`python -m bench`: run, report, list, show. A user's mistake prints one message and exits 2."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bench import regress, results, runner, speedup
from bench import report as reports
from bench import suite as suites
from bench.cases import Case
from bench.pieces import Piece
from bench.report.pages import case_doubts, problems, short_name, study_name
from bench.report.words import (
    comparison_text,
    finals_text,
    interval_text,
    mark_lines,
    number_text,
    quality_lines,
    seconds_text,
    target_lines,
    verdict_lines,
)
from bench.targets import outcomes
from bench.time_to_quality import Study, studies
from osgan.cli import pick_device, run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One-stage and two-stage GAN training side by side: measure, compare, report.",
)

Results = Annotated[Path, typer.Option("--results", help="where runs are kept")]
Reports = Annotated[Path, typer.Option("--reports", help="where reports are written")]
DataRoot = Annotated[str | None, typer.Option("--data", help="where data sets lie; default: OSGAN_DATA")]
RunPath = Annotated[Path | None, typer.Argument(metavar="[RUN]", help="a run's folder; default: the newest run")]
Patterns = Annotated[list[str], typer.Option(help="cases whose name holds this; * and ? are wildcards")]


@app.command("run")
def run_suite(
    suite: Annotated[str, typer.Argument(help="a name in suites/ or a path to a .yaml file")] = "quick",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    data_root: DataRoot = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run, which must be of this machine")] = None,
    only: Patterns = [],  # noqa: B006, typer's way to say a list
    exclude: Patterns = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="instead of the suite's")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the cases and about how long they take")] = False,
    stop_after: Annotated[
        float | None,
        typer.Option(min=0, metavar="MINUTES", help="begin no case that would end later; --resume goes on"),
    ] = None,
    results_folder: Results = Path("results"),
    reports_folder: Reports = Path("reports"),
) -> None:
    """Run a suite and write its report."""
    piece = Piece(None if stop_after is None else 60 * stop_after)
    console = Console()
    where = pick_device(device)
    if resume is not None:
        path = resume
        asked, data_root = runner.resume(path, where)
    else:
        asked = suites.load(suite)
        if seed is not None:
            asked = asked.model_copy(update={"seed": seed})
        if dry_run:
            cases = suites.select(asked.cases(), only, exclude)
            for case in cases:
                console.print(case.name, markup=False, highlight=False, soft_wrap=True)
            for line in _expectation(asked, cases, str(where)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        path = runner.start(asked, where, data_root, results_folder, only=only, exclude=exclude)
    console.print(f"{asked.name} on {where}, results in", markup=False, highlight=False)
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    try:
        measured = runner.finish(path, asked, where, data_root, piece)
    except KeyboardInterrupt:
        console.print(f"\nstopped; go on with: python -m bench run --resume {path}", markup=False)
        raise typer.Exit(130) from None
    page = reports.write(measured, reports_folder)
    _print_summary(console, measured)
    console.print(f"\nreport: {page}", markup=False, highlight=False, soft_wrap=True)
    if piece.over:
        console.print("the time of --stop-after is over; go on with:")
        command = f"python -m bench run --resume {path} --stop-after {stop_after:g}"
        console.print(command, markup=False, highlight=False, soft_wrap=True)
    elif any(record["status"] == "failed" for record in (*measured.cases, *measured.quality)):
        raise typer.Exit(1)


@app.command()
def report(
    run_path: RunPath = None, results_folder: Results = Path("results"), reports_folder: Reports = Path("reports")
) -> None:
    """Write a run's report again, from its results alone."""
    measured = results.load(run_path or results.newest(results_folder))
    print(reports.write(measured, reports_folder))


@app.command("regress")
def regress_command(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    update: Annotated[bool, typer.Option("--update", help="accept what is measured as the new baseline")] = False,
    reason: Annotated[str | None, typer.Option(help="why the baseline changes; needed with --update")] = None,
    results_folder: Results = Path("results"),
    baselines: Annotated[Path, typer.Option(help="where baselines are kept")] = Path("results/baseline"),
) -> None:
    """Hold the speedups and the work a step against the baseline; exit status 1 if they are worse."""
    if not regress.run(Console(), pick_device(device), results_folder, baselines, update=update, reason=reason):
        raise typer.Exit(1)


@app.command("peers")
def peers_command(
    repo: Annotated[list[Path], typer.Option(help="a checkout of other people's code; may be given again")] = [],  # noqa: B006
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    batch_size: Annotated[int | None, typer.Option(min=2, help="default: the peer's own, 16 on a CPU")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="of D; default: the peer's own, a quarter on a CPU")] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="where the peer has several")] = None,
    precision: Annotated[str, typer.Option(help="of both sides: fp32 or tf32")] = "fp32",
    engine: Annotated[str, typer.Option(help="of our steps; auto: cuda_graph on a GPU, else eager")] = "auto",
    folder: Annotated[Path | None, typer.Option(help="time training from this folder of images as well")] = None,
    rounds: Annotated[int | None, typer.Option(min=2, help="so many, however long they take")] = None,
    budget_s: Annotated[float, typer.Option("--budget", min=0.1, help="seconds of timed steps a case")] = 30.0,
    only: Patterns = [],  # noqa: B006
    again: Annotated[Path | None, typer.Option(help="write the report of this run's folder again, and no more")] = None,
    results_folder: Results = Path("results"),
    reports_folder: Reports = Path("reports"),
) -> None:
    """Time other people's training steps beside ours, from checkouts that you have."""
    from bench.peers import command

    if again is None:
        asked = command.Asked(
            pick_device(device), batch_size, width, resolution, precision, engine, folder, rounds, budget_s
        )
        again = command.measure(Console(), repo, asked, tuple(only), results_folder)
    command.report(Console(), again, reports_folder)


@app.command()
def show(run_path: RunPath = None, results_folder: Results = Path("results")) -> None:
    """Print a run's tables: speedup, and quality over time."""
    _print_summary(Console(), results.load(run_path or results.newest(results_folder)))


@app.command("list")
def list_all(results_folder: Results = Path("results")) -> None:
    """List suites and runs."""
    table = Table("suite", "cases", "about")
    for path in sorted(suites.SUITES.glob("*.yaml")):
        suite = suites.load(str(path))
        table.add_row(suite.name, str(len(suite.cases())), suite.about)
    console = Console()
    console.print(table)
    for manifest in sorted(results_folder.glob("*/*/run.json")):
        console.print(str(manifest.parent), markup=False, highlight=False, soft_wrap=True)


def _expectation(suite: suites.Suite, cases: list[Case], where: str) -> list[str]:
    """Say how much there is to do, and how long it takes as far as that can be known."""
    arms = f"{len(suite.schemes)} arms on {where}"
    lines = []
    if suite.timing:
        minutes = len(cases) * runner.expected_seconds(suite) / 60
        lines.append(f"{len(cases)} cases of {arms}, at most about {minutes:.1f} minutes")
    if plan := suite.quality:
        jobs = len(cases) * len(plan.variants) * (plan.seeds + bool(plan.tune))
        lines.append(
            f"{jobs} trainings of {arms}, {plan.images:,} images each: how long one takes is known when the first has "
            f"run, each is ended after {plan.time_limit_s / 60:.1f} minutes"
        )
    return lines


def _print_summary(console: Console, measured: results.Run) -> None:
    summaries = speedup.summarise(measured)
    found = studies(measured)
    if measured.cases or not found:
        console.print(_speedups(measured, summaries))
    for study in found:
        console.print(_quality(study, measured))
    for problem in problems(measured):
        console.print(problem, markup=False, soft_wrap=True)
    for case, doubt in case_doubts(measured, summaries):
        console.print(f"doubt: {case}: {doubt}", markup=False, highlight=False, soft_wrap=True)
    verdict = verdict_lines(summaries) if measured.cases or not found else []
    marks = mark_lines([*measured.cases, *measured.quality])
    for line in [*target_lines(outcomes(measured)), *marks, *verdict, *quality_lines(found)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _quality(study: Study, measured: results.Run) -> Table:
    """Tabulate a study as its report does."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{study_name(study, measured)}: {study.metric}, training time to a value")
    for column in ("scheme", "final value", "failed, collapsed"):
        table.add_column(column, no_wrap=True)
    for target in study.targets:
        table.add_column(f"to {number_text(target.value, 1)}", no_wrap=True)
    for scheme in study.arms:
        lost = "{}, {}".format(*study.failures(scheme))
        times = [seconds_text(target.of(scheme)) for target in study.targets]
        table.add_row(scheme, finals_text(study.finals(scheme)), lost, *times)
    return table


def _speedups(measured: results.Run, summaries: list[speedup.Summary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="time of a baseline's step over one_stage's (95 % interval)")
    table.add_column("case", overflow="fold")
    table.add_column("baseline", no_wrap=True)
    table.add_column("speedup", no_wrap=True)
    table.add_column("ceiling", justify="right", no_wrap=True)
    for index, record in enumerate(measured.cases):
        for row, summary in enumerate(summaries):
            found = summary.comparisons[index]
            table.add_row(
                short_name(record, measured) if row == 0 else "",
                summary.baseline,
                comparison_text(found),
                number_text(found.ceiling),
            )
        table.add_section()
    for row, summary in enumerate(summaries):
        total = interval_text(summary.overall) or "-"
        table.add_row(
            "geometric mean" if row == 0 else "", summary.baseline, total, number_text(summary.ceiling), style="bold"
        )
    return table


def main() -> None:
    """Entry point of `python -m bench`."""
    run(app)
