"""`python -m bench`: run, report, list, show. A user's mistake prints one message and exits 2."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import gate, results
from bench import report as reports
from bench import suite as suites
from bench.execution import ray_driver, runner
from bench.execution.budget import Piece
from bench.report import formats, terminal
from bench.report.formats import Format
from bench.suite.cases import Case
from osgan.commands.entry import run
from osgan.commands.options import pick_device
from osgan.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # "[" in a help is a bracket
    help="One-stage and two-stage GAN training side by side: measure, compare, report.",
)

Results = Annotated[Path, typer.Option("--results", help="where runs are kept")]
Reports = Annotated[Path, typer.Option("--reports", help="where reports are written")]
DataRoot = Annotated[str | None, typer.Option("--data", help="where data sets lie; default: OSGAN_DATA")]
RunPaths = Annotated[
    list[Path] | None, typer.Argument(metavar="[RUN]...", help="folders of runs; default: the newest run")
]
Baselines = Annotated[Path, typer.Option("--baselines", help="where baselines are kept")]
Patterns = Annotated[list[str], typer.Option(help="cases whose name holds this; * and ? are wildcards")]


@app.command("run")
def run_suite(
    suite: Annotated[str, typer.Argument(help="a name in suites/ or a path to a .yaml file")] = "quick",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    data_root: DataRoot = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run, of this machine unless --ray")] = None,
    only: Patterns = [],  # noqa: B006, typer's way to say a list
    exclude: Patterns = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="instead of the suite's")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the cases and about how long they take")] = False,
    stop_after: Annotated[
        float | None,
        typer.Option(min=0, metavar="MINUTES", help="begin no case that would end later; --resume goes on"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="run on every GPU of a Ray cluster: auto, host:port, or local"),
    ] = None,
    results_folder: Results = Path("results"),
    reports_folder: Reports = Path("reports"),
) -> None:
    """Run a suite and write its report."""
    if ray is not None and stop_after is not None:
        raise InputError("--stop-after cannot be had with --ray: stop it with Ctrl-C, and go on with --resume")
    if resume is not None and (dry_run or seed is not None or only or exclude):
        raise InputError(
            "--resume goes on with what the run was asked to do: leave out --dry-run, --seed, --only and --exclude"
        )
    piece = Piece(None if stop_after is None else 60 * stop_after)
    console = Console()
    asked = suites.load(suite) if resume is None else None
    if asked is not None and seed is not None:
        asked = asked.model_copy(update={"seed": seed})
    if asked is not None and dry_run:
        cases = suites.select(asked.cases(), only, exclude)
        where = f"Ray at {ray}" if ray is not None else str(pick_device(device))
        for line in [*(case.name for case in cases), *_expectation(asked, cases, where)]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    with nullcontext() if ray is None else ray_driver.connected(ray, device) as nodes:
        device_of_all = nodes.device if nodes else pick_device(device)
        if asked is None:
            assert resume is not None
            path = resume
            asked, data_root = runner.resume(path, device_of_all, ray=nodes is not None)
        else:
            facts = nodes.facts() if nodes else None
            path = runner.start(asked, device_of_all, data_root, results_folder, only=only, exclude=exclude, ray=facts)
        console.print(f"{asked.name} on {nodes or device_of_all}, results in", markup=False, highlight=False)
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
        try:
            execute = nodes.execute if nodes else None
            measured = runner.finish(path, asked, device_of_all, data_root, piece, execute)
        except KeyboardInterrupt:
            again = f"python -m bench run --resume {path}{f' --ray {ray}' if ray is not None else ''}"
            console.print(f"\nstopped; go on with: {again}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(130) from None
    page = reports.write([measured], reports_folder)
    terminal.show(console, [measured])
    console.print(f"\nreport: {page}", markup=False, highlight=False, soft_wrap=True)
    if piece.over:
        console.print("the time of --stop-after is over; go on with:")
        command = f"python -m bench run --resume {path} --stop-after {stop_after:g}"
        console.print(command, markup=False, highlight=False, soft_wrap=True)
    elif any(row.status == "failed" for row in measured.rows):
        raise typer.Exit(1)


@app.command()
def report(
    run_paths: RunPaths = None,
    results_folder: Results = Path("results"),
    reports_folder: Reports = Path("reports"),
    out: Annotated[Path | None, typer.Option(help="write into this folder instead of one in --reports")] = None,
) -> None:
    """Write a run's report again, from its results alone; several runs stand side by side in one report."""
    print(reports.write(_load(run_paths, results_folder), reports_folder, out=out))


@app.command("regress", epilog=gate.STATUSES)
def regress_command(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    update: Annotated[bool, typer.Option("--update", help="accept what is measured as the new baseline")] = False,
    reason: Annotated[str | None, typer.Option(help="why the baseline changes; needed with --update")] = None,
    output: Annotated[
        gate.Output, typer.Option("--format", help="markdown: nothing but that, for a pull request's summary")
    ] = gate.Output.TABLES,
    results_folder: Results = Path("results"),
    baselines: Baselines = Path("results/baseline"),
) -> None:
    """Hold the speedups and the work of a step against the baseline, both ways."""
    raise typer.Exit(
        gate.run(Console(), pick_device(device), results_folder, baselines, update=update, reason=reason, output=output)
    )


@app.command()
def history(
    results_folder: Results = Path("results"),
    baselines: Baselines = Path("results/baseline"),
    out: Annotated[Path, typer.Option(help="the page's file")] = Path("reports/history/index.html"),
) -> None:
    """Write the gate's ratios over commits as one page, the steps marked."""
    print(gate.write_history(results_folder, baselines, out))


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
def show(
    run_paths: RunPaths = None,
    output: Annotated[
        Format, typer.Option("--format", help="csv, latex: every speedup, for a spreadsheet or a paper")
    ] = Format.TABLES,
    results_folder: Results = Path("results"),
) -> None:
    """Print the tables of a run, or of several: speedup, and quality over time."""
    runs = _load(run_paths, results_folder)
    if output is Format.TABLES:
        terminal.show(Console(), runs)
    else:
        print(formats.speedup_csv(runs) if output is Format.CSV else formats.speedup_latex(runs), end="")


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


def _load(paths: list[Path] | None, folder: Path) -> list[results.Run]:
    return [results.load(path) for path in paths or [results.newest(folder)]]


def main() -> None:
    """Entry point of `python -m bench`."""
    run(app)
