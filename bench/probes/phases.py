"""Where the time of a step goes: data, G forward, D forward, D backward, G backward, optimizers.

Hooks of PyTorch's own mark the borders; the schemes know nothing of it. The marked steps are not the timed ones: they
are eager whatever the engine, for neither a compiled network nor a captured step has borders. What
lies between two marks belongs to the phase that the earlier mark opens; the derivatives at the logits count as D's
backward. What an augmentation does on the way to D is in no phase, what comes back through it in D's backward.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from osgan.clock import clock_of
from osgan.nets import Networks
from osgan.step import Scheme, StepStats
from osgan.training.loop import Loop

PHASES = (
    "data",
    "generator_forward",
    "discriminator_forward",
    "discriminator_backward",
    "generator_backward",
    "optimizers",
)

Mark = tuple[str, Any]


class StepsOfAScheme(Protocol):
    """What takes the marked steps."""

    loop: Loop
    scheme: Scheme
    networks: Networks
    pending: list[StepStats]


def phases_of(arm: StepsOfAScheme, device: torch.device, *, steps: int) -> dict[str, float]:
    """Return milliseconds a step by phase, over so many steps of the arm."""
    marks: list[Mark] = []
    record, elapsed_ms = clock_of(device)
    with arm.loop.plain(), _hooks(arm, lambda phase: marks.append((phase, record()))):
        for _ in range(steps):
            marks.append(("data", record()))
            batch = arm.loop.draw()
            marks.append(("other", record()))
            arm.pending.append(arm.scheme.update(*batch))
            arm.scheme.num_steps += 1
        marks.append(("end", record()))
    spent = dict.fromkeys(PHASES, 0.0)
    for (phase, start), (_, end) in pairwise(marks):
        if phase != "other":
            spent[phase] += elapsed_ms(start, end) / steps
    return spent


@contextmanager
def _hooks(arm: StepsOfAScheme, mark: Callable[[str], None]) -> Iterator[None]:
    def generated(module: Any, inputs: Any, images: Tensor) -> None:
        mark("other")
        if images.requires_grad:
            images.register_hook(lambda gradient: mark("generator_backward"))

    generator, discriminator = arm.networks.generator, arm.networks.discriminator
    handles = [
        generator.register_forward_pre_hook(lambda *_: mark("generator_forward")),
        generator.register_forward_hook(generated),
        discriminator.register_forward_pre_hook(lambda *_: mark("discriminator_forward")),
        discriminator.register_forward_hook(lambda *_: mark("discriminator_backward")),
    ]
    for optimizer in arm.loop.optimizers:
        handles.append(optimizer.register_step_pre_hook(lambda *_: mark("optimizers")))
        handles.append(optimizer.register_step_post_hook(lambda *_: mark("other")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
