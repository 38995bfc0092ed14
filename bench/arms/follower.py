"""A process of a case other than the first: it does what it is told, on its part of the data."""

import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.arms.scheme import SchemeArm
from bench.child import caller_is_gone
from bench.probes.reductions import measure_interconnect, measure_timeline
from bench.probes.timing import named
from osgan.errors import InputError, NonFiniteLossError

ArmOf = Callable[..., Any]
"""Builds the arm of a scheme, with another batch size if one is given."""
Open = Callable[[torch.device], ArmOf]
"""Loads a case's data on a device and returns the builder of its arms: picklable, called in every process."""

FAULT_S = 2.0
"""How long another process is given to say what went wrong there, when something did here."""
PATIENCE = timedelta(minutes=5)
"""How long a process waits for the others in a reduction, or to join them."""


def device_of(device: torch.device, rank: int) -> torch.device:
    """Return the device of a process."""
    return torch.device("cuda", rank) if device.type == "cuda" else device


def join(rank: int, size: int, device: torch.device, threads: int, store: str) -> None:
    """Make this process one of the group of a case, with its share of the processors."""
    torch.set_num_threads(threads)  # the processes of a CPU share its cores
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ["LOCAL_WORLD_SIZE"] = str(size)  # data loaders share the cores too
    on_gpus = {"backend": "cpu:gloo,cuda:nccl", "device_id": device} if device.type == "cuda" else {"backend": "gloo"}
    dist.init_process_group(**on_gpus, init_method=f"file://{store}", rank=rank, world_size=size, timeout=PATIENCE)


def follow(
    open_arms: Open,
    rank: int,
    size: int,
    device: torch.device,
    threads: int,
    store: str,
    commands: Connection,
    faults: Connection,
) -> None:
    """Do what process 0 tells, until it ends."""
    device = device_of(device, rank)
    try:
        join(rank, size, device, threads, store)
        follower = _Follower(open_arms(device), device)
        with suppress(EOFError):
            while (command := commands.recv())[0] != "end":
                getattr(follower, command[0])(*command[1:])
    except Exception as error:
        with suppress(BrokenPipeError):
            faults.send(named(error))
        if not caller_is_gone(FAULT_S / 2):  # its end ends the reductions here a moment before it is known
            traceback.print_exc()
        os._exit(1)  # no waiting for the others at the end of a group that is broken
    dist.destroy_process_group()


class _Follower:
    """What a process other than the first can be told to do: a method each."""

    def __init__(self, arm_of: ArmOf, device: torch.device) -> None:
        self.arm_of = arm_of
        self.device = device
        self.arms: dict[int, SchemeArm] = {}
        self.snapshots: dict[int, list[Tensor]] = {}
        self.turns: dict[int, Any] = {}

    def open(self, number: int, scheme: str, batch_size: int | None) -> None:
        with suppress(InputError):  # process 0 meets the same and says it
            self.arms[number] = self.arm_of(scheme, batch_size)

    def close(self, number: int) -> None:
        for kept in (self.arms, self.snapshots, self.turns):
            kept.pop(number, None)

    def enter(self, number: int) -> None:
        self.turns[number] = self.arms[number].turn()
        self.turns[number].__enter__()

    def leave(self, number: int) -> None:
        with suppress(NonFiniteLossError):  # process 0 says when an arm is lost
            self.turns.pop(number).__exit__(None, None, None)

    def run(self, number: int, steps: int) -> None:
        self.arms[number].run(steps)

    def snapshot(self, number: int) -> None:
        self.snapshots[number] = self.arms[number].snapshot()

    def restart(self, number: int) -> None:
        self.arms[number].restart(self.snapshots[number])

    def timeline(self, number: int) -> None:
        measure_timeline(self.arms[number].loop)

    def interconnect(self) -> None:
        measure_interconnect(self.device)
