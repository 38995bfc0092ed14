"""What `osgan predict` shows: the FLOP ceilings of every scheme, and a step's time on many GPUs."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from osgan import nets
from osgan.cost import Prediction
from osgan.data import Dataset
from osgan.errors import InputError
from osgan.schemes import SCHEMES
from osgan.training.engine import EngineWarning
from osgan.training.loop import Loop
from osgan.training.recipe import Recipe, build_loop
from osgan.training.scaling import Interconnect, Timeline, measure_timelines

GPUS = (8, 64, 1024)
REFERENCE = "one_stage"
GAINS_NOTHING = 1.02
"""A ceiling below this is no gain that a step's time would show."""


def show_ceilings(console: Console, predicted: Prediction, title: str) -> None:
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


def timelines(networks: nets.Networks, dataset: Dataset, recipe: Recipe) -> dict[str, Timeline]:
    """Time the step of every scheme that the recipe's networks allow, with copies of them, on their device."""
    loops: dict[str, Loop] = {}
    for scheme in SCHEMES:
        values = recipe.to_dict() | {"scheme": scheme}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EngineWarning)
            try:
                loops[scheme] = build_loop(Recipe.from_dict(values), copy.deepcopy(networks), dataset)
            except InputError:
                continue  # the table of ceilings says why
    return measure_timelines(loops)


def scaling_rows(measured: dict[str, Timeline], interconnects: Sequence[Interconnect]) -> list[dict[str, Any]]:
    """Return a row for each scheme on each number of GPUs, the one that was measured first."""
    reference = measured.get(REFERENCE)
    rows = []
    for interconnect in (Interconnect(1, interconnects[0].bandwidth, interconnects[0].latency_us), *interconnects):
        for scheme, timeline in measured.items():
            step_ms = timeline.step_ms_on(interconnect)
            rows.append(
                {
                    "gpus": interconnect.gpus,
                    "scheme": scheme,
                    "reduced_bytes": timeline.reduced_bytes if interconnect.gpus > 1 else 0,
                    "step_ms": step_ms,
                    "exposed_ms": step_ms - timeline.step_ms,
                    "efficiency": timeline.step_ms / step_ms,
                    "over_one_stage": step_ms / reference.step_ms_on(interconnect) if reference else None,
                }
            )
    return rows


def show_scaling(console: Console, rows: Sequence[dict[str, Any]], interconnect: Interconnect, where: str) -> None:
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


def device_name(device: torch.device) -> str:
    """Return what the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU, which stands in for a GPU"
