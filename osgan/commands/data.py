"""The commands `osgan data ...`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Data sets.")


@app.callback()
def commands() -> None:
    """Group the commands, so that one alone keeps its name."""


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="celeba, lsun:church_outdoor, ffhq, folder:PATH, ...")],
    out: Annotated[Path, typer.Argument(help="the zip to write, then used as zip:OUT")],
    resolution: Annotated[int, typer.Option(min=1, help="pixels a side")] = 64,
    channels: Annotated[int | None, typer.Option(help="1 (grey) or 3 (RGB); default: the source's")] = None,
    data_root: Annotated[Path | None, typer.Option("--data", help="where data sets lie; default: OSGAN_DATA")] = None,
) -> None:
    """Crop and resize a data set once, into a zip as StyleGAN's tools write it; an interrupted run goes on."""
    from osgan.data import prepare as preparation

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(source, total=None)
        checksum = preparation.prepare(
            source,
            out,
            resolution=resolution,
            root=data_root,
            channels=channels,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    print(f"{checksum}  {out}")
