"""A job in a process of its own: what it finds, or what ended it, goes to the runner through a pipe."""

import traceback
from multiprocessing.connection import Connection

import torch

from bench.child import KilledError
from bench.execution.case import run_case
from bench.execution.training import run_job
from bench.probes.timing import named
from bench.results.checks import Found
from bench.results.writing import UnwritableError
from bench.suite.jobs import Job, QualityJob
from osgan.errors import InputError, MissingDataError


def main(job: Job | QualityJob, connection: Connection) -> None:
    """Do a job, and send ("progress", what, share) messages and at last ("result", record).

    Or ("unwritable", why) or ("killed", who) where there is none.
    """

    def report(what: str, share: float) -> None:
        connection.send(("progress", what, share))

    if (device := torch.device(job.device)).type == "cuda":
        # Graphs and library handles are of the current device, whatever the tensors'.
        torch.cuda.set_device(torch.cuda.current_device() if device.index is None else device.index)
    try:
        record = run_job(job, report) if isinstance(job, QualityJob) else run_case(job, report)
    except BrokenPipeError:
        return  # the runner is gone
    except UnwritableError as error:  # no fault of the case: the runner stops, and the case is left to do
        connection.send(("unwritable", str(error)))
        return
    except KilledError as error:  # another process of the case
        connection.send(("killed", str(error)))
        return
    except MissingDataError as error:  # the runner looks beforehand, but on its own machine only
        record = failed(job, str(error), "skipped")
    except InputError as error:
        record = failed(job, str(error))
    except Exception as error:
        traceback.print_exc()
        record = failed(job, named(error))
    connection.send(("result", record))


def failed(job: Job | QualityJob, reason: str, status: str = "failed") -> Found:
    """Return the record of a case that has nothing to show."""
    record: Found = {
        "name": job.name if isinstance(job, QualityJob) else job.case.name,
        "case": job.case.model_dump(exclude_none=True),
        "status": status,
        "reason": reason,
    }
    if isinstance(job, QualityJob):
        return record | {"variant": job.variant, "seed": job.seed, "arms": {}}
    return record | {"process": job.process, "rounds": 0, "ended_by": "", "arms": {}}
