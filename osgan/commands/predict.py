"""The command `osgan predict`: the FLOP ceilings of every scheme, and a step's time on many GPUs."""

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from osgan.commands.options import (
    Architecture,
    AsJson,
    BatchSize,
    DataRoot,
    DatasetName,
    Device,
    Loss,
    NumCritic,
    pick_device,
)
from osgan.errors import InputError, unknown

if TYPE_CHECKING:
    from osgan.cost import Prediction
    from osgan.training.scaling import Interconnect

GPUS = (8, 64, 1024)
REFERENCE = "one_stage"
GAINS_NOTHING = 1.02
"""A ceiling below this is no gain that a step's time would show."""


def predict(
    architecture: Architecture = "dcgan64+width=128",
    loss: Loss = "nonsaturating",
    dataset: DatasetName = "synthetic",
    data_root: DataRoot = None,
    batch_size: BatchSize = 8,
    n_critic: NumCritic = 1,
    gpus: Annotated[
        list[int] | None, typer.Option(min=1, help="expect a step on so many; may be given again; default: 8, 64, 1024")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(min=0, metavar="GB/s", help="bus bandwidth of an all-reduce between them")
    ] = None,
    latency: Annotated[float, typer.Option(min=0, metavar="US", help="of a message between them")] = 5.0,
    precision: Annotated[str, typer.Option(help="of the measured steps: fp32, tf32 or bf16")] = "fp32",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Count the FLOPs of a step of every scheme: the most that one stage can gain on a compute-bound machine.

    With --gpus and --bandwidth, time the steps here and say what to expect of them on many GPUs, as a model.
    """
    from osgan import cost, regularizers
    from osgan.commands import scaling
    from osgan.commands.batch import networks_and_batch
    from osgan.losses import as_loss
    from osgan.training.engine import Precision
    from osgan.training.recipe import Recipe
    from osgan.training.scaling import Interconnect

    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    for name, value in (("--bandwidth", bandwidth), ("--latency", latency)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value!r}")
    if bandwidth is not None and not bandwidth > 0:
        raise InputError(f"--bandwidth must be above 0 GB/s, got {bandwidth!r}")
    if gpus and bandwidth is None:
        raise InputError("--gpus needs --bandwidth: the GB/s that nccl-tests' all_reduce_perf prints as busbw")
    interconnects = [] if bandwidth is None else [Interconnect(n, bandwidth, latency) for n in gpus or GPUS]
    where = pick_device(device)
    networks, source, real, labels = networks_and_batch(architecture, dataset, data_root, batch_size, where)
    name, penalties = regularizers.parse_loss(loss)
    predicted = cost.predict_speedup(
        networks.generator,
        networks.discriminator,
        as_loss(name),
        real,
        networks.latent,
        labels,
        regularizers=penalties,
        n_critic=n_critic,
    )
    found: dict[str, Any] = {"flops": predicted.flops, "ceilings": predicted.ceilings, "reasons": predicted.reasons}
    if interconnects:
        recipe = Recipe(
            dataset=dataset,
            architecture=architecture,
            loss=loss,
            batch_size=batch_size,
            n_critic=n_critic,
            precision=precision,
        )
        found["scaling"] = scaling.scaling_rows(scaling.timelines(networks, source, recipe), interconnects)
    if as_json:
        print(json.dumps(found))
        return
    console = Console()
    show_ceilings(console, predicted, f"{architecture}, {loss}, batch {batch_size}")
    if interconnects:
        show_scaling(console, found["scaling"], interconnects[0], scaling.device_name(where))


def show_ceilings(console: Console, predicted: "Prediction", title: str) -> None:
    """Print GFLOP a step of every scheme, and over one-stage's."""
    table = Table("scheme", "GFLOP a step", "over one_stage", title=title)
    for scheme, flops in predicted.flops.items():
        ceiling = predicted.ceilings[scheme]
        table.add_row(
            scheme,
            "-" if flops is None else f"{flops / 1e9:.3f}",
            "-" if ceiling is None else f"{ceiling:.3f}",
        )
    console.print(table)
    most = max((ceiling for ceiling in predicted.ceilings.values() if ceiling), default=None)
    if most is not None and most < GAINS_NOTHING:
        console.print("No scheme does more work than one stage: it gains you nothing here.", highlight=False)
    for scheme, reason in predicted.reasons.items():
        console.print(f"{scheme}: {reason}", markup=False, highlight=False)


def show_scaling(console: Console, rows: Sequence[dict[str, Any]], interconnect: "Interconnect", where: str) -> None:
    """Print the expected steps on many GPUs, a column for each number of them, under what was assumed."""
    numbers = list(dict.fromkeys(row["gpus"] for row in rows))
    titles = [f"{n:,} GPU{'s' if n > 1 else ''}" for n in numbers]
    by_scheme: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_scheme.setdefault(row["scheme"], []).append(row)
    _show(console, "step in ms (of it waiting for gradients)", titles, by_scheme, _step_text)
    if REFERENCE in by_scheme:
        _show(console, "over one_stage", titles, by_scheme, lambda row: f"{row['over_one_stage']:.3f}")
    megabytes = max(row["reduced_bytes"] for row in rows) / 1e6
    console.print(
        f"Steps on one GPU measured eagerly on {where}; on more, a model and no measurement: a batch of the same size "
        f"on every GPU, {megabytes:,.1f} MB of gradients reduced a step, all-reduces of {interconnect.bandwidth:g} "
        f"GB/s bus bandwidth and {interconnect.latency_us:g} us a message, hidden behind the backward pass as "
        "DistributedDataParallel does (docs/scaling.md).",
        markup=False,
        highlight=False,
    )


def _step_text(row: dict[str, Any]) -> str:
    return f"{row['step_ms']:.2f}" + (f" ({row['exposed_ms']:.2f})" if row["gpus"] > 1 else "")


def _show(
    console: Console,
    title: str,
    titles: Sequence[str],
    by_scheme: dict[str, list[dict[str, Any]]],
    text: Callable[[dict[str, Any]], str],
) -> None:
    table = Table("scheme", title=title)
    for column in titles:
        table.add_column(column, justify="right", no_wrap=True)
    for scheme, rows in by_scheme.items():
        table.add_row(scheme, *map(text, rows))
    console.print(table)
