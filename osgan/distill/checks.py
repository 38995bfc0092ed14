"""What must be true of the players before a step: measured on two images, with every player left as it was."""

from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from osgan.distill.losses import DistillationLoss
from osgan.errors import InputError
from osgan.latent import Latent

NUM_PROBES = 2


def check_players(
    teacher: nn.Module,
    student: nn.Module,
    generator: nn.Module,
    student_optimizer: Optimizer,
    generator_optimizer: Optimizer,
    *,
    latent: Latent,
    loss: DistillationLoss,
) -> None:
    """Raise InputError for players that share weights, a teacher in train mode, or logits that cannot be compared."""
    players = {"teacher": teacher, "student": student, "generator": generator}
    for (name, module), (other_name, other) in combinations(players.items(), 2):
        if module is other:
            raise InputError(f"the {name} and the {other_name} are one and the same network; use a copy.deepcopy of it")
        taken = _storages(other)
        if shared := [tensor for storage, tensor in _storages(module).items() if storage in taken]:
            raise InputError(
                f"the {name} and the {other_name} share {shared[0]!r}: an update of one would move the other; give "
                "each weights and buffers of its own"
            )
    if training := [name or type(module).__name__ for name, module in teacher.named_modules() if module.training]:
        raise InputError(
            f"the teacher is in train mode (at {training[0]!r}): its BatchNorm would follow the generator's images; "
            "call teacher.eval()"
        )
    for name, optimizer in {"student": student_optimizer, "generator": generator_optimizer}.items():
        own = {id(weight) for weight in players[name].parameters()}
        if not {id(weight) for group in optimizer.param_groups for weight in group["params"]} <= own:
            raise InputError(f"the {name}'s optimizer holds weights that are not the {name}'s")
    if loss.reads_features and not hasattr(teacher, "with_features"):
        raise InputError(
            f"the term activation of {loss.name!r} reads the teacher's features: give the teacher a method "
            "with_features(images) -> (logits, features)"
        )
    _check_logits(teacher, student, generator, latent)


def _check_logits(teacher: nn.Module, student: nn.Module, generator: nn.Module, latent: Latent) -> None:
    device = next(generator.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        images = _probe("generator", generator, latent(NUM_PROBES, device), "its latents")
        found = f"the generator's images, {tuple(images.shape)}"
        teacher_logits = _probe("teacher", teacher, images, found)
        student_logits = _probe("student", student, images, found)
    for name, logits in {"teacher": teacher_logits, "student": student_logits}.items():
        if logits.ndim < 2 or logits.shape[0] != NUM_PROBES:
            raise InputError(
                f"the {name} must return logits (N, classes), but for {NUM_PROBES} images it returned "
                f"{tuple(logits.shape)}"
            )
    if teacher_logits.shape != student_logits.shape:
        raise InputError(
            f"the teacher knows {teacher_logits.shape[1]} classes and the student {student_logits.shape[1]} (logits "
            f"{tuple(teacher_logits.shape[1:])} and {tuple(student_logits.shape[1:])} an image): build the student for "
            "the teacher's classes"
        )


def _probe(name: str, module: nn.Module, given: Tensor, what: str) -> Tensor:
    """Call a module with copies of its buffers, so that running statistics stay where they are."""
    module = getattr(module, "_orig_mod", module)  # torch.compile's wrapper
    buffers = {key: buffer.clone() for key, buffer in module.named_buffers()}
    try:
        output: Any = functional_call(module, buffers, (given,))
    except RuntimeError as error:
        raise InputError(f"the {name} cannot take {what}: {error}") from error
    if not isinstance(output, Tensor):
        raise InputError(f"the {name} must return one tensor, but returned {type(output).__name__}")
    return output


def _storages(module: nn.Module) -> dict[int, str]:
    named = chain(module.named_parameters(), module.named_buffers())
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in named if tensor.numel()}
