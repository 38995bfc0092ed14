"""A job done in processes of its own; whatever happens to them is found."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from bench import results
from bench.child import child, how_it_ended, messages, was_killed
from bench.execution import worker
from bench.execution.case import resident_growth
from bench.results.writing import UnwritableError
from bench.suite.jobs import Job, QualityJob

AnyJob = Job | QualityJob
Show = Callable[[str, float], None]
RETRIES = 1
"""How often a job is begun again whose process a signal killed; after that it is a failed row."""


def perform(job: AnyJob, show: Show) -> results.Found:
    """Do a job in processes of its own; whatever happens to them is found."""
    began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    found = _time(job, show) if isinstance(job, Job) else _train(job, show)
    return found | {"started": started, "took_s": round(time.perf_counter() - began, 3)}


def _time(job: Job, show: Show) -> results.Found:
    limit_s = job.timing.time_limit_s
    deadline = time.monotonic() + limit_s
    peaks = {}
    if job.process == 0 and torch.device(job.device).type == "cpu" and job.case.world_size == 1:
        for scheme in job.suite.schemes:
            show(f"{scheme}: memory", 0.0)
            peaks[scheme] = resident_growth(job, scheme, deadline)
    found = _in_a_process(job, deadline, limit_s, show)
    for scheme, arm in found["arms"].items():
        found["arms"][scheme] = peaks.get(scheme, {}) | arm
    return found


def _train(job: QualityJob, show: Show) -> results.Found:
    limit_s = job.plan.time_limit_s
    return _in_a_process(job, time.monotonic() + limit_s, limit_s, show)


def _in_a_process(job: AnyJob, deadline: float, limit_s: float, show: Show) -> results.Found:
    """Return what the worker finds; one that a signal killed is begun again, and its row says so."""
    # What a process is dealt, its memory's layout say, forks of one server share: replicates have none in common.
    fresh = isinstance(job, Job) and job.timing.replicates > 1
    lost: list[str] = []
    while True:
        how = None
        with child(worker.main, job, fresh=fresh) as (process, receiving):
            try:
                for kind, *content in messages(receiving, deadline):
                    if kind == "unwritable":
                        raise UnwritableError(*content)
                    if kind == "result":
                        found: results.Found = content[0]
                        return found | ({"lost": lost} if lost else {})
                    if kind == "killed":
                        (how,) = content
                    else:
                        show(*content)
            except TimeoutError:
                return worker.failed(job, f"not finished within the suite's time_limit_s of {limit_s:g} s")
        if how is None and was_killed(process):
            how = f"its process was {how_it_ended(process)}"
        if how is None or len(lost) == RETRIES:
            reason = how or f"its process ended without a result: {how_it_ended(process)}"
            return worker.failed(job, reason) | ({"lost": lost} if lost else {})
        lost.append(how)
        show("begun again", 0.0)
