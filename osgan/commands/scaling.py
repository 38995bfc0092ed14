"""A step's time on many GPUs, as `osgan predict` expects it of steps that it times here."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from osgan import nets
from osgan.data import Dataset
from osgan.errors import InputError
from osgan.names import SCHEME_NAMES
from osgan.training.engine import EngineWarning
from osgan.training.loop import Loop
from osgan.training.recipe import Recipe, build_loop
from osgan.training.scaling import Interconnect, Timeline, measure_timelines

REFERENCE = "one_stage"


def timelines(networks: nets.Networks, dataset: Dataset, recipe: Recipe) -> dict[str, Timeline]:
    """Time the step of every scheme that the recipe's networks allow, with copies of them, on their device."""
    loops: dict[str, Loop] = {}
    for scheme in SCHEME_NAMES:
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


def device_name(device: torch.device) -> str:
    """Return what the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU, which stands in for a GPU"
