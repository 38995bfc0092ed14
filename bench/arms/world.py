"""Cases of several processes: the worker is process 0, the others do what it does, on their part of the data.

A step of such a case is that of all processes together, data-parallel under DistributedDataParallel
(`osgan.parallel.ddp`). What decides anything (how many steps a round has, which arm is next) is asked of process 0
alone, which then tells the others; while steps are timed nothing is waited for but the gradients.
"""

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.arms.scheme import SchemeArm
from bench.child import caller_is_gone, child
from bench.probes.reductions import measure_interconnect, measure_timeline
from bench.probes.timing import named
from bench.results.checks import Found
from osgan.cost import Work
from osgan.errors import InputError, NonFiniteLossError
from osgan.training.scaling import Interconnect

ArmOf = Callable[..., Any]
"""Builds the arm of a scheme, with another batch size if one is given."""
Open = Callable[[torch.device], ArmOf]
"""Loads a case's data on a device and returns the builder of its arms: picklable, called in every process."""

FAULT_S = 2.0
"""How long another process is given to say what went wrong there, when something did here."""


@dataclass
class World:
    """The other processes of a case, as process 0 sees them."""

    size: int
    device: torch.device
    """Of process 0."""
    others: list[tuple[Connection, Connection]] = field(default_factory=list)
    """Of every other process: where it is told what to do, and where it says what went wrong."""
    opened: int = 0
    """Arms so far; the number of the next."""
    fault: str | None = None
    """What was the end of another process, and of all steps."""

    def tell(self, what: str, *arguments: Any) -> None:
        """Have every other process do something; returns at once."""
        with self.blamed():
            for commands, _ in self.others:
                commands.send((what, *arguments))

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Name the process whose fault ended a reduction or closed a pipe, and its fault, instead of what is met here.

        Raises RuntimeError, for a broken pipe as well: that is another process of the case, not the runner.
        """
        try:
            yield
        except (RuntimeError, BrokenPipeError) as error:
            for rank, (_, faults) in enumerate(self.others, 1):
                if self.fault is None and faults.poll(FAULT_S):
                    self.fault = f"process {rank} of {self.size}: {_fault(faults)}"
            raise RuntimeError(self.fault or str(error)) from error

    def interconnect(self) -> Interconnect:
        """Measure what joins the processes: the bandwidth of a large all-reduce, and the latency of a small one."""
        self.tell("interconnect")
        with self.blamed():
            return measure_interconnect(self.device)


class WorldArm:
    """An arm of several processes. What is not told to all is `arm`'s, process 0's."""

    def __init__(self, world: World, arm_of: ArmOf, scheme: str, batch_size: int | None = None) -> None:
        self.world = world
        self.number = world.opened
        world.opened += 1
        world.tell("open", self.number, scheme, batch_size)
        with world.blamed():
            self.arm: SchemeArm = arm_of(scheme, batch_size)

        self.case = self.arm.case
        self.ran_as, self.ran_as_because = self.arm.ran_as, self.arm.ran_as_because
        self.period, self.images_per_step = self.arm.period, self.arm.images_per_step

    @property
    def steps_done(self) -> int:
        """Steps since the start."""
        return self.arm.steps_done

    @property
    def fallbacks(self) -> list[str]:
        """What the engine could not do in process 0."""
        return self.arm.fallbacks

    def forget_graphs(self) -> None:
        """Do nothing: steps of several processes are not captured."""

    def count(self) -> Work:
        """Count a step of process 0."""
        return self.arm.count()

    def phases(self, device: torch.device, steps: int) -> dict[str, float]:
        """Return milliseconds a step by phase in process 0, without the reductions."""
        return self.arm.phases(device, steps)

    def sample(self, n: int) -> Tensor:
        """Return n images of process 0's G."""
        return self.arm.sample(n)

    def real_images(self, n: int) -> Tensor:
        """Return n images of the data set."""
        return self.arm.real_images(n)

    def __del__(self) -> None:
        with suppress(OSError):  # the others may be gone
            for commands, _ in self.world.others:
                commands.send(("close", self.number))

    def run(self, steps: int) -> None:
        """Take that many steps, all processes together."""
        self.world.tell("run", self.number, steps)
        with self.world.blamed():
            self.arm.run(steps)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Give the arm its random state for a visit, in every process."""
        self.world.tell("enter", self.number)
        with self.arm.turn():
            yield
        self.world.tell("leave", self.number)

    def snapshot(self) -> list[Tensor]:
        """Return copies of all that a step changes; the others keep theirs."""
        self.world.tell("snapshot", self.number)
        return self.arm.snapshot()

    def restart(self, snapshot: list[Tensor]) -> None:
        """Go back to the first step, in every process."""
        self.world.tell("restart", self.number)
        self.arm.restart(snapshot)

    def prediction(self) -> Found:
        """Measure the step without its reductions, in all processes at once, and predict it with them.

        `local_ms` is that step, `reduced_bytes` what each process gives to be reduced, `predicted_ms` what
        `osgan.training.scaling` makes of both and of the measured interconnect. The weights drift apart: restart the
        arm.
        """
        self.world.tell("timeline", self.number)
        timeline = measure_timeline(self.arm.loop)
        interconnect = self.world.interconnect()
        return {
            "local_ms": timeline.step_ms,
            "reduced_bytes": timeline.reduced_bytes,
            "allreduce_gb_per_s": interconnect.bandwidth,
            "allreduce_latency_us": interconnect.latency_us,
            "predicted_ms": timeline.step_ms_on(interconnect),
        }


@contextmanager
def joined(open_arms: Open, size: int, device: torch.device) -> Iterator[ArmOf]:
    """Open a case's arms in `size` processes, of which this is the first; with one process they are plain arms.

    Raises InputError where there are not as many GPUs. Whatever goes wrong in another process ends this one's next
    reduction, with a RuntimeError that names it.
    """
    if size == 1:
        yield open_arms(device)
        return
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise InputError(f"world_size {size} needs as many GPUs; PyTorch sees {torch.cuda.device_count()}")
    threads = max(1, torch.get_num_threads() // size)
    with ExitStack() as stack:
        store = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store")
        world = World(size, _device_of(device, 0))
        for rank in range(1, size):
            theirs, mine = Pipe(duplex=False)
            _, faults = stack.enter_context(child(_follow, open_arms, rank, size, device, threads, store, theirs))
            world.others.append((stack.enter_context(mine), faults))
            theirs.close()
        _join(0, size, world.device, threads, store)
        stack.callback(dist.destroy_process_group)
        arm_of = open_arms(world.device)
        yield lambda scheme, batch_size=None: WorldArm(world, arm_of, scheme, batch_size)
        with suppress(RuntimeError):  # all is measured
            world.tell("end")


def _device_of(device: torch.device, rank: int) -> torch.device:
    return torch.device("cuda", rank) if device.type == "cuda" else device


def _join(rank: int, size: int, device: torch.device, threads: int, store: str) -> None:
    torch.set_num_threads(threads)  # the processes of a CPU share its cores
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ["LOCAL_WORLD_SIZE"] = str(size)  # data loaders share the cores too
    on_gpus = {"backend": "cpu:gloo,cuda:nccl", "device_id": device} if device.type == "cuda" else {"backend": "gloo"}
    dist.init_process_group(**on_gpus, init_method=f"file://{store}", rank=rank, world_size=size)


def _follow(
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
    device = _device_of(device, rank)
    try:
        _join(rank, size, device, threads, store)
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


def _fault(faults: Connection) -> str:
    try:
        return str(faults.recv())
    except EOFError:
        return "it ended without a word"


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
