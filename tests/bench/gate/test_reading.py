import numpy as np

from bench.gate import reading
from tests.bench.gate.made import WORK, record, run
from tests.bench.rows import changed


def test_an_arm_is_read_with_its_speedup_drift_and_work():
    drifting = np.linspace(1.0, 1.1, 30)
    made = record(noise={"two_stage": drifting, "one_stage": np.ones(30)})
    found = reading.read(run(made), "a", "two_stage")
    assert found.trouble is None
    assert 1.4 < found.speedup.estimate < 1.54
    assert 0.06 < found.drift < 0.075
    assert dict(found.work) == WORK


def test_one_stage_has_no_speedup_over_itself_and_few_rounds_no_drift():
    assert reading.read(run(record()), "a", "one_stage").speedup is None
    short = record(noise=dict.fromkeys(("two_stage", "one_stage"), np.ones(2)))
    assert reading.read(run(short), "a", "two_stage").drift is None


def test_a_trouble_is_told():
    made = changed(record(), "two_stage", status="skipped", reason="too large")
    del made.arms["control"]
    measured = run(made)
    assert reading.read(measured, "a", "two_stage").trouble == "skipped: too large"
    assert reading.read(measured, "a", "control").trouble == "not run"
    assert reading.read(measured, "b", "two_stage").trouble == "not run"


def test_the_commit_of_a_changed_tree_says_so():
    measured = run(record())
    assert reading.origin_of(measured).commit == "abc"
    measured = run(record(), dirty=True)
    assert reading.origin_of(measured).commit == "abc-dirty"
