"""From the clock to the interval over processes, with both rules that stop: do 95 % of the intervals hold the truth?"""

import random
from contextlib import nullcontext
from functools import cache

import numpy as np
import pytest

from bench.analysis.processes import enough, process_ratio, ratio_over_processes
from bench.analysis.statistics import Interval
from bench.probes.timing import Finish, Rounds, WallTimer, interleave
from tests.bench.analysis.simulated import REPEATS, coverage

TRUTHS = {"two_stage": 1.4, "simultaneous": 1.1}
TARGET = 0.02
FIRST, MOST = 3, 10


class Arm:
    """Takes steps on a clock that drifts slowly, with noise and stalls."""

    def __init__(self, now: list[float], mean_s: float, noise: float, rng: np.random.Generator) -> None:
        self.now, self.mean_s, self.noise, self.rng = now, mean_s, noise, rng

    def run(self, steps: int) -> None:
        stall = 3.0 if self.rng.random() < 0.02 else 1.0
        drift = 1 + 0.0005 * self.now[0]
        self.now[0] += steps * self.mean_s * drift * stall * np.exp(self.noise * self.rng.normal())

    def turn(self):
        return nullcontext()


def _process(noise: float, rng: np.random.Generator) -> Rounds:
    """Time one process, which has no effect of its own: its ratios' intervals are as wide with one."""
    now = [0.0]
    arms = {name: Arm(now, mean_s, noise, rng) for name, mean_s in {"one_stage": 1.0, **TRUTHS}.items()}
    finish = Finish("one_stage", TARGET, min_rounds=10, budget_s=300)
    order = random.Random(int(rng.integers(2**31)))
    *_, rounds = interleave(arms, WallTimer(lambda: now[0]), steps=1, order=order, finished=finish)
    return rounds


@cache
def _pool(noise: float) -> np.ndarray:
    """Return the log ratios of many processes to the truth, one column a ratio."""
    rng = np.random.default_rng(0)
    timed = [_process(noise, rng) for _ in range(200)]
    ratios = [[process_ratio(r.wall_ms(name), r.wall_ms("one_stage")) for name in TRUTHS] for r in timed]
    return np.array(ratios) - np.log(list(TRUTHS.values()))


def _case(noise: float, sd: float, rng: np.random.Generator, first_stage: int | None) -> list[Interval]:
    """Run processes until there are enough, each from the pool and with an effect of its own on one_stage."""
    pool = _pool(noise)
    logs = pool[rng.integers(len(pool), size=MOST)] + sd * rng.normal(size=(MOST, 1))
    replicates = [[([time], [1.0]) for time in column] for column in np.exp(logs).T]
    for num in range(FIRST, MOST + 1):
        found = [ratio_over_processes(ratio[:num], first_stage=first_stage) for ratio in replicates]
        if enough(found, target_half_width=TARGET, replicates=FIRST, max_replicates=MOST):
            return found
    raise AssertionError("more processes than most")


@pytest.mark.parametrize(("noise", "sd"), [(0.01, 0.003), (0.03, 0.01), (0.01, 0.02)])
def test_the_interval_covers_in_spite_of_the_stopping_within_and_across_processes(noise, sd):
    rng = np.random.default_rng(int(1e4 * sd))
    cases = [_case(noise, sd, rng, FIRST) for _ in range(REPEATS)]
    for ratio in range(len(TRUTHS)):
        assert 0.93 <= coverage([case[ratio] for case in cases]) <= 0.97
    assert np.mean([case[0].num_processes > FIRST for case in cases]) > 0.2


def test_with_the_variance_of_all_processes_those_stop_that_look_narrow_by_luck():
    rng = np.random.default_rng(1)
    wrong = [interval for _ in range(REPEATS // 2) for interval in _case(0.01, 0.02, rng, None)]
    assert coverage(wrong) < 0.935
