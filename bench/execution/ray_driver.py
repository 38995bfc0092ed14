"""Runs a suite's jobs over Ray: on every GPU of a cluster or of this machine, one at a time on each.

Which node does what is Ray's to decide: a job is a task that asks for the GPUs of its processes, one as a rule, or on
CPUs for as many as PyTorch has threads here. What is done on a node is in `ray_node` and `ray_job` beside this. A job
that is lost with its node is begun again by this side, as Ray's own retries do not say where and why, and the row
has to.
"""

import logging
import os
import pickle
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench import machine, results
from bench.execution import worker
from bench.execution.runner import AnyJob, Finished, ShowOf, prepared
from bench.probes.timing import named
from bench.results import AnyRow, Found
from osgan.errors import InputError

RETRIES = 2
"""How often a job is begun again that was lost with its node; after that it is a failed row."""
POLL_S = 0.3
REACH_S = 10.0
TREE = Path(__file__).resolve().parents[2]
NOT_SHIPPED = ["/results", "/reports", "/data", "/build", ".git", ".*_cache", ".benchmarks", ".venv", "*.egg-info"]
LOCAL_STORE_BYTES = 256 * 2**20
INSTALL = "pip install -e '.[ray]'"


@dataclass
class Attempt:
    """A job that a node has begun; times are the clock of its machine."""

    job: AnyJob
    lost: list[str]
    """Why it was begun again, once for each time before."""
    node: str | None = None
    host: str | None = None
    started: float = 0.0
    ended: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: a record, or why there is none, or what it was lost with."""

    record: Found | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    failure: str | None = None
    cause: str | None = None


@dataclass
class Cluster:
    """A Ray that this process is connected to."""

    ray: Any
    device: torch.device
    """Of every job: a task sees the one GPU that it was given."""
    threads: int
    attempts: list[Attempt] = field(default_factory=list)
    """All that were ever begun, of this call."""

    def __str__(self) -> str:
        facts = self.facts()
        gpus = f"{facts['gpus']} GPUs" if self.device.type == "cuda" else f"{facts['cpus']} CPUs, {self.threads} a case"
        return f"a Ray of {facts['nodes']} node{'s' if facts['nodes'] > 1 else ''} with {gpus}"

    def facts(self) -> Found:
        """Return what the run's manifest says of it."""
        resources = self.ray.cluster_resources()
        return {
            "version": self.ray.__version__,
            "device": self.device.type,
            "nodes": sum(node["Alive"] for node in self.ray.nodes()),
            "gpus": int(resources.get("GPU", 0)),
            "cpus": int(resources.get("CPU", 0)),
        }

    def execute(self, jobs: list[AnyJob], done: Mapping[str, AnyRow], show: ShowOf) -> Finished:
        """Do jobs wherever there is room and yield them as they are finished: the executor of `runner.finish`."""
        from bench.execution import ray_node

        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        board = self.ray.remote(ray_node.Board).options(num_cpus=0, scheduling_strategy=strategy).remote()
        task = self.ray.remote(ray_node.perform)
        here = machine.describe(torch.device("cpu"))
        origin = here.model_dump(include={"commit", "dirty"})
        waiting: list[tuple[AnyJob, list[str]]] = [(job, []) for job in jobs]
        running: dict[Any, Attempt] = {}
        try:
            while waiting or running:
                for job, lost in list(waiting):
                    if ready := prepared(job, done):
                        waiting.remove((job, lost))
                        payload = pickle.dumps((ready, origin))
                        options = {**self._room(job), "max_retries": 0}
                        reference = task.options(**options).remote((job.name, len(lost)), payload, self.threads, board)
                        running[reference] = Attempt(job, lost)
                        self.attempts.append(running[reference])
                references, _ = self.ray.wait(list(running), num_returns=len(running), timeout=POLL_S)
                self._hear(self.ray.get(board.take.remote()), running.values(), show)
                outcomes = [
                    (running[reference], self._outcome(running[reference], reference)) for reference in references
                ]
                for reference in references:
                    del running[reference]
                for attempt, outcome in outcomes:  # once the ends of all are known: they may have run beside each other
                    if outcome.cause and len(attempt.lost) < RETRIES:
                        show(attempt.job.name, f"{outcome.cause}; it is begun again", 0.0)
                        waiting.insert(0, (attempt.job, [*attempt.lost, outcome.cause]))
                    else:
                        yield attempt.job, self._record(attempt, outcome)
        finally:
            for reference in running:
                with suppress(Exception):  # the node may be gone, or all of Ray
                    self.ray.cancel(reference, force=True)

    def _room(self, job: AnyJob) -> dict[str, int]:
        """Return what a job asks Ray for. One with more processes than any node has GPUs fails there."""
        if self.device.type == "cpu":
            return {"num_cpus": self.threads}  # the processes of a data-parallel case share them
        most = max(int(node["Resources"].get("GPU", 0)) for node in self.ray.nodes() if node["Alive"])
        return {"num_gpus": max(1, min(job.case.world_size, most))}

    def _hear(self, news: Mapping[Any, Found], running: Iterable[Attempt], show: ShowOf) -> None:
        for attempt in running:
            if heard := news.get((attempt.job.name, len(attempt.lost))):
                attempt.node, attempt.host, attempt.started = heard["node"], heard["host"], heard["started"]
                show(attempt.job.name, f"{heard['node']} {heard['what']}", heard["share"])

    def _outcome(self, attempt: Attempt, reference: Any) -> Outcome:
        """Return what came of an attempt. No message of Ray's is kept: they name addresses."""
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            attempt.ended = time.time()
            return Outcome(failure=f"its task failed: {named(error.cause)}")
        except self.ray.exceptions.RayError as error:
            attempt.ended = time.time()
            return Outcome(cause=f"lost with node {attempt.node or 'unknown'} ({type(error).__name__})")
        attempt.node, attempt.host, attempt.started = found["node"], found["host"], found["started"]
        attempt.ended = found["ended"]
        failure = found["why"] and f"its process on node {attempt.node} ended without a result: {found['why']}"
        return Outcome(found["record"], found["files"], failure)

    def _record(self, attempt: Attempt, outcome: Outcome) -> Found:
        """Return the whole row, its samples put in their place."""
        job = attempt.job
        for name, content in outcome.files.items():
            results.write_within(job.run, name, content)
        reason = f"{outcome.cause}, after {len(attempt.lost)} times before" if outcome.cause else outcome.failure
        record = outcome.record or worker.failed(job, reason or "") | {"machine": None}
        record |= {"node": attempt.node, "beside": beside(attempt, self.attempts)}
        lost = [*attempt.lost, *record.get("lost", ())]
        return record | ({"lost": lost} if lost else {})


def beside(attempt: Attempt, others: Iterable[Attempt]) -> list[str]:
    """Return the names of the jobs that ran on an attempt's machine while it did."""
    assert attempt.ended is not None
    met = {
        other.job.name
        for other in others
        if other.host == attempt.host is not None
        and other.started < attempt.ended
        and (other.ended is None or other.ended > attempt.started)
    }
    return sorted(met - {attempt.job.name})


@contextmanager
def connected(address: str, device: str) -> Iterator[Cluster]:
    """Connect to the Ray at an address, `auto` or host:port, or start one on this machine for `local`.

    Raises InputError where there is none, or none of its nodes has the device, `auto`, `cpu` or `cuda`, for one job.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device} with --ray: which GPU a case gets is Ray's to say; give auto, cpu or cuda")
    ray = _connect(address)
    try:
        gpus = ray.cluster_resources().get("GPU", 0)
        if device == "cuda" and not gpus:
            raise InputError(f"--device cuda: no node of the Ray at {address!r} has a GPU; try --device cpu")
        cpu = device == "cpu" or not gpus
        threads = torch.get_num_threads()
        largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
        if cpu and largest < threads:
            raise InputError(
                f"a case takes {threads} CPUs, as many as PyTorch has threads here, and no node of the Ray at "
                f"{address!r} has more than {largest:g}; set OMP_NUM_THREADS={largest:g}"
            )
        yield Cluster(ray, torch.device("cpu" if cpu else "cuda:0"), threads)
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(f"--ray needs Ray, which is not installed: {INSTALL}") from None
    if address not in ("local", "auto"):
        _check_reachable(address)
    logging.getLogger("ray").setLevel(logging.ERROR)  # what it packs and what it leaves out, once a file
    options: dict[str, Any] = {"address": address}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES}
    environment = {"working_dir": str(TREE), "excludes": NOT_SHIPPED}
    try:
        ray.init(**options, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray {address}: {error}") from None
    return ray


def _check_reachable(address: str) -> None:
    """Raise InputError unless something listens at host:port; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in host:
        raise InputError(f"--ray {address!r}: expected local, auto or host:port, as `ray start --head` prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray {address}: nothing can be reached there: {error}") from None
