"""The `osgan` command, put together. A user's mistake prints one message and exits 2; nothing here computes.

PyTorch takes seconds to import: a command imports what it needs when it runs, so that --help answers at once.
"""

import os
from typing import Annotated, Any

import typer

import osgan
from osgan.commands import data, distill, predict, sample, train, verify
from osgan.commands.entry import run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # "[" in a help is a bracket
    help="GAN training in one stage.",
)
app.add_typer(data.app, name="data")
for command in (verify.verify, predict.predict, distill.distill, train.train, sample.sample):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        print(f"osgan {osgan.__version__}")
        raise typer.Exit


@app.callback()
def commands(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """GAN training in one stage."""


def main() -> None:
    """Entry point of the `osgan` command; under torchrun the cause of a failure goes into its summary."""
    run(_as_one_of_several if "RANK" in os.environ else app)


def _as_one_of_several() -> Any:
    from torch.distributed.elastic.multiprocessing.errors import record

    from osgan.parallel import processes

    return record(lambda: app())() if processes.launched() else app()
