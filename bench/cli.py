"""`python -m bench`: run, report, list, show. A user's mistake prints one message and exits 2.

A command imports what it needs itself: PyTorch takes seconds, and to read results takes none of it.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import results
from bench.gate import STATUSES, Output, write_history
from osgan.commands.entry import run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # "[" in a help is a bracket
    help="One-stage and two-stage GAN training side by side: measure, compare, report.",
)


class Format(StrEnum):
    """What `show` can print."""

    TABLES = "tables"
    CSV = "csv"
    LATEX = "latex"


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
    suite: Annotated[
        str | None,
        typer.Argument(help="a name in suites/ or a path to a .yaml file; default: quick", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    data_root: DataRoot = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run, of this machine unless --ray")] = None,
    only: Patterns = [],  # noqa: B006, typer's way to say a list
    exclude: Patterns = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="instead of the suite's")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="print the cases, or what is left of --resume, and about how long it takes"),
    ] = False,
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
    from bench.execution import command

    asked = command.Asked(
        suite=suite,
        device=device,
        data_root=data_root,
        resume=resume,
        only=only,
        exclude=exclude,
        seed=seed,
        stop_after=stop_after,
        ray=ray,
        results_folder=results_folder,
        reports_folder=reports_folder,
    )
    if dry_run:
        command.dry_run(Console(), asked)
    else:
        raise typer.Exit(command.run(Console(), asked))


@app.command()
def report(
    run_paths: RunPaths = None,
    results_folder: Results = Path("results"),
    reports_folder: Reports = Path("reports"),
    out: Annotated[Path | None, typer.Option(help="write into this folder instead of one in --reports")] = None,
) -> None:
    """Write a run's report again, from its results alone; several runs stand side by side in one report."""
    from bench import report as reports

    print(reports.write(_load(run_paths, results_folder), reports_folder, out=out))


@app.command("regress", epilog=STATUSES)
def regress_command(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    update: Annotated[bool, typer.Option("--update", help="accept what is measured as the new baseline")] = False,
    reason: Annotated[str | None, typer.Option(help="why the baseline changes; needed with --update")] = None,
    output: Annotated[
        Output, typer.Option("--format", help="markdown: nothing but that, for a pull request's summary")
    ] = Output.TABLES,
    results_folder: Results = Path("results"),
    baselines: Baselines = Path("results/baseline"),
) -> None:
    """Hold the speedups and the work of a step against the baseline, both ways."""
    from bench.gate import command
    from osgan.commands.options import pick_device

    where = pick_device(device)
    raise typer.Exit(
        command.run(Console(), where, results_folder, baselines, update=update, reason=reason, output=output)
    )


@app.command()
def history(
    results_folder: Results = Path("results"),
    baselines: Baselines = Path("results/baseline"),
    out: Annotated[Path, typer.Option(help="the page's file")] = Path("reports/history/index.html"),
) -> None:
    """Write the gate's ratios over commits as one page, the steps marked."""
    print(write_history(results_folder, baselines, out))


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
    from osgan.commands.options import pick_device

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
    from bench.report import formats, terminal

    runs = _load(run_paths, results_folder)
    if output is Format.TABLES:
        terminal.show(Console(), runs)
    else:
        print(formats.speedup_csv(runs) if output is Format.CSV else formats.speedup_latex(runs), end="")


@app.command("list")
def list_all(results_folder: Results = Path("results")) -> None:
    """List suites and runs."""
    from bench import suite as suites

    table = Table("suite", "cases", "about")
    for path in sorted(suites.SUITES.glob("*.yaml")):
        suite = suites.load(str(path), check_names=False)
        table.add_row(suite.name, str(len(suite.cases())), suite.about)
    console = Console()
    console.print(table)
    for manifest in sorted(results_folder.glob("*/*/run.json")):
        console.print(str(manifest.parent), markup=False, highlight=False, soft_wrap=True)


def _load(paths: list[Path] | None, folder: Path) -> list[results.Run]:
    return [results.load(path) for path in paths or [results.newest(folder)]]


def main() -> None:
    """Entry point of `python -m bench`."""
    run(app)
