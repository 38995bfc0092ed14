"""What `python -m bench run` does once its options are read."""

import shlex
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench import report as reports
from bench import results
from bench import suite as suites
from bench.execution import ray_driver, runner
from bench.execution.budget import Piece
from bench.execution.stopping import Stopped, stoppable
from bench.report import terminal
from bench.suite import Suite
from bench.suite.jobs import Job, job_keys
from osgan.commands.options import pick_device
from osgan.errors import InputError

DEFAULT_SUITE = "quick"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options."""

    suite: str | None
    device: str
    data_root: str | None
    resume: Path | None
    only: Sequence[str]
    exclude: Sequence[str]
    seed: int | None
    stop_after: float | None
    ray: str | None
    results_folder: Path
    reports_folder: Path

    def again(self, run: Path) -> str:
        """Return the command that goes on with the run."""
        words = ["python", "-m", "bench", "run", "--resume", str(run)]
        words += [] if self.ray is None else ["--ray", self.ray]
        words += [] if self.stop_after is None else ["--stop-after", f"{self.stop_after:g}"]
        return shlex.join(words)


def check(asked: Asked) -> None:
    """Raise InputError for options that contradict each other."""
    if asked.ray is not None and asked.stop_after is not None:
        raise InputError("--stop-after cannot be had with --ray: stop it with Ctrl-C, and go on with --resume")
    if asked.resume is None:
        return
    given = {
        f"the suite {asked.suite!r}": asked.suite is not None,
        "--seed": asked.seed is not None,
        "--only": asked.only,
        "--exclude": asked.exclude,
        "--data": asked.data_root is not None,
    }
    if refused := [name for name, is_given in given.items() if is_given]:
        raise InputError(f"--resume goes on with what the run was asked to do: leave out {' and '.join(refused)}")


def dry_run(console: Console, asked: Asked) -> None:
    """Print the cases of a suite, or what is left to do of a run, and about how long it takes; write nothing."""
    check(asked)
    if asked.resume is None:
        suite = _suite(asked)
        cases = suites.select(suite.cases(), asked.only, asked.exclude)
        names = timed_cases = [case.name for case in cases]
        processes = len(cases) * suite.timing.replicates if suite.timing else 0
        seeds = [seed for *_, seed, _ in job_keys(names, suite.quality)] if suite.quality else []
    else:
        suite, left = runner.left_of(asked.resume, pick_device(asked.device), ray=asked.ray is not None)
        names = [job.name for job in left]
        timed_cases = [job.case.name for job in left if isinstance(job, Job)]
        processes, seeds = len(timed_cases), [job.seed for job in left if not isinstance(job, Job)]
    where = f"Ray at {asked.ray}" if asked.ray is not None else str(pick_device(asked.device))
    _say(console, *names, *_expectation(suite, len(set(timed_cases)), processes, seeds, where))


def run(console: Console, asked: Asked) -> int:
    """Run a suite, or go on with a run, write the report, and return the exit status: 1 if a case failed."""
    check(asked)
    suite = None if asked.resume is not None else _suite(asked)
    with nullcontext() if asked.ray is None else ray_driver.connected(asked.ray, asked.device) as nodes:
        path = asked.resume
        try:
            with stoppable():
                device = nodes.device if nodes else pick_device(asked.device)
                if suite is None:
                    assert path is not None
                    suite, root = runner.resume(path, device, ray=nodes is not None)
                else:
                    root, facts = asked.data_root, nodes.facts() if nodes else None
                    selection = {"only": asked.only, "exclude": asked.exclude}
                    path = runner.start(suite, device, root, asked.results_folder, **selection, ray=facts)
                _say(console, f"{suite.name} on {nodes or device}, results in", str(path))
                piece = Piece(None if asked.stop_after is None else 60 * asked.stop_after)
                measured = runner.finish(path, suite, device, root, piece, nodes.execute if nodes else None)
                page = reports.write([measured], asked.reports_folder)
        except KeyboardInterrupt as stopped:  # Ray makes one of its own of a signal
            with suppress(OSError):  # the terminal may be gone
                _say(console, f"\nstopped; go on with: {asked.again(path)}" if path else "\nstopped")
            return stopped.exit_status if isinstance(stopped, Stopped) else 130
    terminal.show(console, [measured])
    _say(console, f"\nreport: {page}")
    if piece.over:
        _say(console, "the time of --stop-after is over; go on with:", asked.again(path))
    return 1 if _has_failed(measured) and not piece.over else 0


def _has_failed(measured: results.Run) -> bool:
    return any(row.status == "failed" for row in measured.rows)


def _suite(asked: Asked) -> Suite:
    suite = suites.load(asked.suite or DEFAULT_SUITE)
    return suite if asked.seed is None else suite.model_copy(update={"seed": asked.seed})


def _expectation(suite: Suite, cases: int, processes: int, seeds: Sequence[int | None], where: str) -> list[str]:
    """Say how much there is to do, and how long it takes as far as that can be known; a search has no seed."""
    arms = f"{len(suite.schemes)} arms on {where}"
    lines = [] if processes or seeds else ["nothing is left to do"]
    plan = suite.quality
    if processes:
        of_memory = cases * len(suite.schemes) * runner.MEMORY_S if where == "cpu" else 0.0
        minutes = (processes * runner.expected_process_seconds(suite) + of_memory) / 60
        lines.append(
            f"{cases} cases of {arms}, {processes} processes in all, about {minutes:.1f} minutes, more where a step "
            "takes seconds"
        )
    if plan and seeds:
        arms = f"{len(plan.schemes or suite.schemes)} arms on {where}"
        trained = len([seed for seed in seeds if seed is not None])
        what = [f"{trained} trainings of {arms}, {plan.images:,} images each"] if trained else []
        if plan.tune and trained < len(seeds):
            each = len(plan.tune.settings(plan.tune.parts[0], suite.seed)) * plan.tune.seeds
            of_each = f"{each} trainings of {plan.tune.images:,} images an arm each"
            what.append(f"{len(seeds) - trained} searches of {arms}, {of_each}")
        lines.append(
            f"{' and '.join(what)}: how long one takes is known when the first has run, each is ended after "
            f"{plan.time_limit_s / 60:.1f} minutes"
        )
    return lines


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
