"""One job of a suite in an interpreter of its own, as a cluster's node does it: `python -m bench.execution.ray_job`.

Reads the job from stdin and does with it what the runner does on its own machine. Pickled messages go to stdout:
("progress", what, share), at last ("result", record, files), the samples' bytes by their paths within the run. It knows
nothing of Ray, and it ends, with all its children, when whoever started it does.
"""

import os
import pickle
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench import machine
from bench.execution.perform import perform


def main() -> None:
    """Do the job that stdin holds."""
    os.setsid()  # a process group of its own, which _end_with_the_caller ends as a whole
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no message

    def send(*message: Any) -> None:
        pickle.dump(message, messages)
        messages.flush()

    job, origin = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    here = machine.describe(torch.device(job.device)).model_copy(update=origin)
    with TemporaryDirectory() as name:
        folder = Path(name)
        record = perform(replace(job, run=folder), lambda what, share: send("progress", what, share))
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    send("result", record | {"machine": here.model_dump()}, files)


def _end_with_the_caller() -> None:
    os.read(0, 1)  # returns when the other end is closed, as it is when its process dies
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
