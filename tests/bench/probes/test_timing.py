import itertools
import random
from collections import Counter
from contextlib import contextmanager

import pytest

from bench.analysis.statistics import ratio_interval
from bench.probes.timing import Finish, WallTimer, balanced_orders, interleave, preheat, warm_up


class FakeClock:
    """Time that passes only when an arm works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeArm:
    def __init__(self, clock: FakeClock, step_s, turn_s: float = 0.0, fails_at: int | None = None) -> None:
        self.clock = clock
        self.step_s = step_s if callable(step_s) else lambda step: step_s
        self.turn_s = turn_s
        self.fails_at = fails_at
        self.steps = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.steps += 1
            if self.steps == self.fails_at:
                raise RuntimeError("out of luck")
            self.clock.now += self.step_s(self.steps)

    @contextmanager
    def turn(self):
        self.clock.now += self.turn_s
        yield
        self.clock.now += self.turn_s


def _measure(arms, clock, *, steps, num_rounds):
    done = lambda rounds: "enough" if len(rounds.order) == num_rounds else None  # noqa: E731
    *_, rounds = interleave(arms, WallTimer(clock), steps=steps, order=random.Random(0), finished=done)
    return rounds


def test_an_injected_clock_gives_exact_numbers():
    clock = FakeClock()
    arms = {"a": FakeArm(clock, 0.25, turn_s=9.0), "b": FakeArm(clock, 0.5)}
    rounds = _measure(arms, clock, steps=3, num_rounds=4)
    assert rounds.wall_ms("a") == [250.0] * 4  # what happens around a visit is not timed
    assert rounds.wall_ms("b") == [500.0] * 4
    assert rounds.device_clocks("a") == {"device_ms": None, "host_ms": None}
    assert [arm.steps for arm in arms.values()] == [15, 15]  # those of the dropped round too
    assert rounds.ended_by == "enough"


def test_every_arm_is_visited_once_a_round_in_changing_order():
    clock = FakeClock()
    rounds = _measure({name: FakeArm(clock, 1.0) for name in "abc"}, clock, steps=1, num_rounds=40)
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds.order)
    assert {tuple(order) for order in rounds.order} >= {("a", "b", "c"), ("c", "b", "a"), ("b", "a", "c")}


@pytest.mark.parametrize("num_arms", range(2, 8))
def test_over_a_square_every_arm_follows_every_other_equally_often_and_has_every_place(num_arms):
    names = "abcdefg"[:num_arms]
    num_rounds = 3 * num_arms * (1 + num_arms % 2)
    clock = FakeClock()
    rounds = _measure({name: FakeArm(clock, 1.0) for name in names}, clock, steps=1, num_rounds=num_rounds)
    followed = Counter(pair for order in rounds.order for pair in itertools.pairwise(order))
    assert followed == dict.fromkeys(itertools.permutations(names, 2), num_rounds / num_arms)
    places = Counter((place, name) for order in rounds.order for place, name in enumerate(order))
    assert set(places.values()) == {num_rounds / num_arms}
    shuffled = [random.Random(seed).sample(names, num_arms) for seed in range(num_rounds)]
    by_chance = Counter(pair for order in shuffled for pair in itertools.pairwise(order))
    assert len({by_chance[pair] for pair in itertools.permutations(names, 2)}) > 1  # the order of before


def test_the_seed_gives_the_order():
    drawn = [list(itertools.islice(balanced_orders("abcd", random.Random(seed)), 12)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_first_round_is_measured_and_counted_nowhere():
    clock = FakeClock()
    arms = {name: FakeArm(clock, lambda step: 50.0 if step == 1 else 1.0) for name in "ab"}
    seen, asked = [], []
    finished = lambda rounds: asked.append(1) or ("enough" if len(rounds.order) == 3 else None)  # noqa: E731
    for rounds in interleave(arms, WallTimer(clock), steps=1, order=random.Random(0), finished=finished):
        seen.append(len(rounds.order))
    assert rounds.wall_ms("a") == rounds.wall_ms("b") == [1000.0] * 3
    assert (seen, len(asked), rounds.spent_s, clock.now) == ([0, 1, 2, 3], 3, 6.0, 106.0)


def test_an_arm_that_fails_drops_out_of_the_order_which_stays_that_of_the_design():
    clock = FakeClock()
    arms = {name: FakeArm(clock, 1.0, fails_at=1 if name == "b" else None) for name in "abcd"}
    rounds = _measure(arms, clock, steps=1, num_rounds=8)
    design = itertools.islice(balanced_orders("abcd", random.Random(0)), 8)
    assert rounds.order == [[name for name in order if name != "b"] for order in design]
    assert rounds.times["b"] == []


def test_preheating_runs_the_arms_in_turns_for_so_many_seconds_and_keeps_no_time():
    clock = FakeClock()
    arms = {"a": FakeArm(clock, 1.0, turn_s=9.0), "b": FakeArm(clock, 0.5), "bad": FakeArm(clock, 1.0, fails_at=1)}
    assert preheat(arms, WallTimer(clock), 7.0, steps=2) == 8.0
    assert [arm.steps for arm in arms.values()] == [6, 4, 1]
    rounds = _measure({"a": arms["a"], "b": arms["b"]}, clock, steps=1, num_rounds=5)
    assert (len(rounds.times["a"]), rounds.spent_s) == (5, 7.5)


def test_preheating_for_no_time_or_with_no_arm_left_ends():
    clock = FakeClock()
    arms = {"bad": FakeArm(clock, 1.0, fails_at=1)}
    assert preheat(arms, WallTimer(clock), 0.0) == 0.0
    assert arms["bad"].steps == 0
    assert preheat(arms, WallTimer(clock), 5.0) == 0.0


def test_an_arm_that_fails_is_out_and_the_others_go_on():
    clock = FakeClock()
    arms = {"good": FakeArm(clock, 1.0), "bad": FakeArm(clock, 1.0, fails_at=7)}
    rounds = _measure(arms, clock, steps=2, num_rounds=6)
    assert rounds.failures == {"bad": "RuntimeError: out of luck"}
    assert (len(rounds.times["good"]), len(rounds.times["bad"])) == (6, 2)


def test_rounds_end_when_every_arm_failed():
    clock = FakeClock()
    arms = {"bad": FakeArm(clock, 1.0, fails_at=1)}
    rounds = list(interleave(arms, WallTimer(clock), steps=1, order=random.Random(0), finished=lambda _: None))
    assert rounds[-1].failures
    assert rounds[-1].ended_by == "every arm failed"


def test_warm_up_ends_when_steady():
    clock = FakeClock()
    arm = FakeArm(clock, lambda step: 1.0 if step <= 7 else 0.1)
    times, steady = warm_up(arm, WallTimer(clock), budget_s=1e9)
    assert steady
    assert times == pytest.approx([1000.0] * 7 + [100.0] * 8)  # the first 15 steps whose two windows agree


def test_warm_up_gives_up_at_its_budget():
    clock = FakeClock()
    times, steady = warm_up(FakeArm(clock, lambda step: 2.0**-step), WallTimer(clock), budget_s=0.9)
    assert not steady
    assert len(times) == 10


@pytest.mark.parametrize(
    ("noise", "target", "ended_by"), [(0.001, 0.02, "target_half_width"), (0.5, 0.0001, "budget_s")]
)
def test_what_ended_the_rounds_is_recorded(noise, target, ended_by):
    clock, rng = FakeClock(), random.Random(0)
    arms = {name: FakeArm(clock, lambda step: 1 + noise * rng.random()) for name in ("one_stage", "two_stage")}
    finish = Finish("one_stage", target_half_width=target, min_rounds=10, budget_s=200)
    *_, rounds = interleave(arms, WallTimer(clock), steps=1, order=random.Random(0), finished=finish)
    assert rounds.ended_by == ended_by
    spent_s = sum(sum(rounds.wall_ms(name)) for name in arms) / 1e3
    assert (spent_s >= 200) == (ended_by == "budget_s")
    assert len(rounds.order) >= 10


def _noisy_ratio(slowdown, seed, rounds=30):
    """Measure A against an A that is slower by `slowdown`, on a machine that scatters by 3 % and stalls at times."""
    clock, rng = FakeClock(), random.Random(seed)

    def step_s(factor):
        return lambda step: factor * (1 + 0.03 * rng.gauss(0, 1)) * (3.0 if rng.random() < 0.02 else 1.0)

    arms = {"a": FakeArm(clock, step_s(1.0)), "b": FakeArm(clock, step_s(1.0 + slowdown))}
    measured = _measure(arms, clock, steps=1, num_rounds=rounds)
    return ratio_interval(measured.wall_ms("b"), measured.wall_ms("a"), resamples=999)


def test_a_against_a_says_no_difference():
    intervals = [_noisy_ratio(0.0, seed) for seed in range(200)]
    assert sum(i.low <= 1 <= i.high for i in intervals) >= 0.93 * 200  # 95 %, less the scatter of 200 draws
    first_40 = [i.low <= 1 <= i.high for i in intervals[:40]]
    assert sum(first_40) >= 0.95 * 40


def test_a_planted_slowdown_of_3_percent_is_found():
    found = [_noisy_ratio(0.03, seed, rounds=60).low > 1 for seed in range(60)]
    assert sum(found) >= 0.95 * 60
