import pytest

from bench.analysis.doubts import bound, doubts
from bench.analysis.speedup import compare
from bench.results import Arm
from tests.bench.rows import case_row, changed, machine

CALM = [10.0 + 0.05 * (i % 3) for i in range(30)]


def _row(times=CALM, rounds=30, ended_by="target_half_width", steady=True, context=None, **more):
    arm = {"wall_ms": times, "steady": steady, "flops": 100}
    arms = {"one_stage": arm, "two_stage": {**arm, "flops": 144}}
    return case_row(arms=arms, rounds=rounds, ended_by=ended_by, context=context or {}, **more)


def _said(row):
    return " | ".join(doubts(row, [compare(row, "two_stage")]))


def test_a_calm_case_raises_no_doubt():
    assert _said(_row(context={"others_cpu_share": 0.02, "throttling": [], "sm_clock_mhz": [1900, 1980]})) == ""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (_row(rounds=12), "few rounds: 12"),
        (_row(ended_by="budget_s"), "the time was spent"),
        (_row(steady=False), "not steady after the warm-up: one_stage, two_stage"),
        (_row(times=[10 + 0.1 * i for i in range(30)]), "drift of more than 10%"),
        (_row(times=[10.0, 10.1, 13.0] * 10), "bimodal times"),
        (_row(context={"others_cpu_share": 0.5}), "a busy machine: other processes took 50%"),
        (_row(context={"throttling": ["power", "thermal"]}), "throttled: power, thermal"),
        (_row(context={"sm_clock_mhz": [1200, 1980]}), "between 1200 and 1980 MHz"),
    ],
)
def test_each_doubt_has_its_sign(row, said):
    assert said in _said(row)


def _on(gpu, host_ms=None, beside=("a", "b")):
    row = _row(machine=machine(gpu=gpu), beside=list(beside))
    for scheme in row.arms:
        row = changed(row, scheme, host_ms=host_ms and (host_ms,) * 30)
    return row


def test_neighbours_are_doubted_where_they_share_what_a_step_waits_for():
    assert _said(_on(None)) == "2 other cases of this run ran on the same CPU meanwhile"
    assert _said(_on(None, beside=["a"])) == "1 other case of this run ran on the same CPU meanwhile"
    assert _said(_on(None, beside=[])) == ""
    assert _said(_on("A GPU", host_ms=2.0)) == ""
    assert "these wait for its processors: one_stage, two_stage" in _said(_on("A GPU", host_ms=10.2))


def test_one_stalled_round_is_not_bimodal():
    assert "bimodal" not in _said(_row(times=[*CALM[:-1], 40.0]))


def test_a_speedup_above_its_ceiling_is_doubted():
    above, below = (changed(_row(), "two_stage", wall_ms=[ratio * time for time in CALM]) for ratio in (1.8, 1.48))
    assert "two_stage over one_stage is 1.80, above its FLOP ceiling of 1.44" in _said(above)
    assert "ceiling" not in _said(below)


@pytest.mark.parametrize(("host_ms", "expected"), [([9.8, 9.9], "host"), ([2.0, 2.1], "device"), (None, None)])
def test_what_a_step_waits_for(host_ms, expected):
    assert bound(Arm(status="ok", wall_ms=(10.0, 10.0), host_ms=host_ms)) == expected


@pytest.mark.parametrize(
    ("fallen", "said"),
    [
        (("one_stage", "two_stage"), "timed without what was asked for: tf32 is not possible here"),
        (("one_stage",), "the arms did not have the same engine: one_stage: tf32 is not possible here"),
    ],
)
def test_an_engine_that_fell_back_is_doubted_and_more_so_if_not_for_all(fallen, said):
    row = _row()
    for scheme in fallen:
        row = changed(row, scheme, fallbacks=["tf32 is not possible here"])
    assert _said(row) == said
