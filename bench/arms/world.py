"""Cases of several processes: the worker is process 0, the others do what it does, on their part of the data.

A step of such a case is that of all processes together, data-parallel under DistributedDataParallel
(`osgan.parallel.ddp`). What decides anything (how many steps a round has, which arm is next) is asked of process 0
alone, which then tells the others; while steps are timed nothing is waited for but the gradients.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bench.arms.follower import FAULT_S, ArmOf, Open, device_of, follow, join
from bench.arms.scheme import SchemeArm
from bench.child import KilledError, child, how_it_ended, was_killed
from bench.probes.reductions import measure_interconnect, measure_timeline
from bench.probes.timing import named
from bench.results.checks import Found
from osgan.cost import Work
from osgan.errors import InputError
from osgan.training.scaling import Interconnect


class LostArmError(RuntimeError):
    """An arm failed in a step, and the processes are out of step: the other arms need new ones."""

    def __init__(self, scheme: str, reason: str) -> None:
        super().__init__(reason)
        self.scheme = scheme
        self.reason = reason


@dataclass(frozen=True)
class Other:
    """A process other than the first, as the first sees it."""

    process: BaseProcess
    commands: Connection
    """Where it is told what to do."""
    faults: Connection
    """Where it says what went wrong."""


@dataclass
class World:
    """The other processes of a case, as process 0 sees them."""

    size: int
    device: torch.device
    """Of process 0."""
    others: list[Other] = field(default_factory=list)
    opened: int = 0
    """Arms so far; the number of the next."""
    end: KilledError | LostArmError | None = None
    """What was the end of all steps."""

    def tell(self, scheme: str, what: str, *arguments: Any) -> None:
        """Have every other process do something for an arm; returns at once."""
        with self.blamed(scheme):
            for other in self.others:
                other.commands.send((what, *arguments))

    @contextmanager
    def blamed(self, scheme: str) -> Iterator[None]:
        """Work for an arm in which all processes take part; raises RuntimeError for whatever ends it, in any of them.

        It is the end of all steps: a process that is gone, or in the middle of another step, ends the next reduction.
        The process whose fault it was is named instead of what is met here; a broken pipe is another process of the
        case, not the runner. InputError is raised as it is: all processes meet it, before their first reduction.
        """
        if self.end:
            raise self.end
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            self.end = self.found_elsewhere(scheme) or LostArmError(scheme, named(error))
            raise self.end from error

    def found_elsewhere(self, scheme: str) -> KilledError | LostArmError | None:
        """Return what ended another process; one that was killed first, since that is what the others then meet."""
        wait([other.faults for other in self.others], FAULT_S)
        fault = None
        for rank, other in enumerate(self.others, 1):
            if other.faults.poll():
                who = f"process {rank} of {self.size}"
                try:
                    said = str(other.faults.recv())
                except EOFError:
                    other.process.join(FAULT_S)
                    if was_killed(other.process):
                        return KilledError(f"{who} was {how_it_ended(other.process)}")
                    said = f"it ended without a word: {how_it_ended(other.process)}"
                fault = fault or LostArmError(scheme, f"{who}: {said}")
        return fault

    def interconnect(self, scheme: str) -> Interconnect:
        """Measure what joins the processes: the bandwidth of a large all-reduce, and the latency of a small one."""
        self.tell(scheme, "interconnect")
        with self.blamed(scheme):
            return measure_interconnect(self.device)


class WorldArm:
    """An arm of several processes. What is not told to all is `arm`'s, process 0's."""

    def __init__(self, world: World, arm_of: ArmOf, scheme: str, batch_size: int | None = None) -> None:
        self.world = world
        self.name = scheme
        self.number = world.opened
        world.opened += 1
        self._tell("open", scheme, batch_size)
        with world.blamed(scheme):
            self.arm: SchemeArm = arm_of(scheme, batch_size)

        self.case = self.arm.case
        self.ran_as, self.ran_as_because = self.arm.ran_as, self.arm.ran_as_because
        self.period, self.images_per_step = self.arm.period, self.arm.images_per_step

    def _tell(self, what: str, *arguments: Any) -> None:
        self.world.tell(self.name, what, self.number, *arguments)

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
            for other in self.world.others:
                other.commands.send(("close", self.number))

    def run(self, steps: int) -> None:
        """Take that many steps, all processes together."""
        self._tell("run", steps)
        with self.world.blamed(self.name):
            self.arm.run(steps)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Give the arm its random state for a visit, in every process."""
        self._tell("enter")
        with self.arm.turn():
            yield
        self._tell("leave")

    def snapshot(self) -> list[Tensor]:
        """Return copies of all that a step changes; the others keep theirs."""
        self._tell("snapshot")
        return self.arm.snapshot()

    def restart(self, snapshot: list[Tensor]) -> None:
        """Go back to the first step, in every process."""
        self._tell("restart")
        self.arm.restart(snapshot)

    def prediction(self) -> Found:
        """Measure the step without its reductions, in all processes at once, and predict it with them.

        `local_ms` is that step, `reduced_bytes` what each process gives to be reduced, `predicted_ms` what
        `osgan.training.scaling` makes of both and of the measured interconnect. The weights drift apart: restart the
        arm.
        """
        self._tell("timeline")
        timeline = measure_timeline(self.arm.loop)
        interconnect = self.world.interconnect(self.name)
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

    Raises InputError where there are not as many GPUs; and at the end, if the processes had to give up on the way,
    KilledError or LostArmError.
    """
    if size == 1:
        yield open_arms(device)
        return
    if device.type == "cuda" and torch.cuda.device_count() < size:
        raise InputError(f"world_size {size} needs as many GPUs; PyTorch sees {torch.cuda.device_count()}")
    threads = max(1, torch.get_num_threads() // size)
    with ExitStack() as stack:
        store = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store")
        world = World(size, device_of(device, 0))
        for rank in range(1, size):
            theirs, mine = Pipe(duplex=False)
            process, faults = stack.enter_context(child(follow, open_arms, rank, size, device, threads, store, theirs))
            world.others.append(Other(process, stack.enter_context(mine), faults))
            theirs.close()
        try:
            join(0, size, world.device, threads, store)
        except RuntimeError as error:
            end = world.found_elsewhere("")
            raise end if isinstance(end, KilledError) else error from None
        stack.callback(dist.destroy_process_group)
        arm_of = open_arms(world.device)
        yield lambda scheme, batch_size=None: WorldArm(world, arm_of, scheme, batch_size)
        if world.end:
            for other in world.others:
                other.process.kill()  # it may wait for the others in a reduction
            raise world.end
        with suppress(OSError):  # all is measured
            for other in world.others:
                other.commands.send(("end",))
