"""The rows of a case's processes as one."""

import numpy as np
import pytest

from bench.analysis.doubts import doubts
from bench.analysis.speedup import Comparison, compare, corrected, summarise
from bench.analysis.statistics import student_interval
from bench.report.words import verdict_lines
from bench.results.timed import timed_case
from tests.bench.rows import case_row, changed, run_of


def process(number, factor=1.4, *, name="a", rounds=12, **arm):
    noise = np.exp(np.random.default_rng(number).normal(0, 0.01, rounds))
    arms = {
        "two_stage": {"wall_ms": list(factor * noise), "flops": 144} | arm,
        "one_stage": {"wall_ms": [1.0] * rounds, "flops": 100},
    }
    return case_row(name, arms, process=number, rounds=rounds, took_s=2.0, context={"others_cpu_share": number / 10})


def test_times_stand_behind_each_other_and_what_is_measured_once_is_the_first_s():
    first = changed(process(0), "one_stage", peak_resident_growth_mib=7.0)
    whole = timed_case([process(1), first])
    assert whole.arms["two_stage"].wall_ms == first.arms["two_stage"].wall_ms + process(1).arms["two_stage"].wall_ms
    assert (whole.rounds, whole.took_s, whole.status) == (24, 4.0, "ok")
    assert whole.arms["one_stage"].peak_resident_growth_mib == 7.0
    assert whole.context.others_cpu_share == 0.1
    assert [row.process for row in whole.processes] == [0, 1]


def test_the_interval_is_over_the_processes():
    found = compare(timed_case([process(0, 1.3), process(1, 1.4), process(2, 1.5)]), "two_stage")
    assert found.speedup.num_processes == 3
    assert found.speedup.estimate == pytest.approx((1.3 * 1.4 * 1.5) ** (1 / 3), rel=0.01)
    assert found.speedup.half_width > 0.1  # rounds alone would say 0.005
    assert found.ceiling == 1.44


def test_an_arm_that_failed_in_one_process_fails_and_says_where():
    found = compare(timed_case([process(0), process(1, status="failed", reason="NaN")]), "two_stage")
    assert (found.verdict, found.reason) == ("failed", "two_stage: process 2: NaN")


def test_a_process_that_was_killed_leaves_the_others_times_and_a_doubt():
    killed = case_row("a", {}, process=1, status="failed", reason="killed by signal 9")
    whole = timed_case([process(0), killed, process(2)])
    found = compare(whole, "two_stage")
    assert (whole.status, found.speedup.num_processes) == ("failed", 2)
    assert "not every process of it was done: process 2: killed by signal 9" in doubts(whole, [found])


def test_engines_that_differ_in_any_process_are_not_compared():
    fell_back = process(1, fallbacks=["cuda_graph is not possible here"])
    assert compare(timed_case([process(0), fell_back]), "two_stage").verdict == "skipped"


def test_verdicts_are_corrected_for_their_number():
    case = process(0).case
    lone = student_interval(0.05, 0.01, 2, n=30, num_processes=3)  # p = 0.04
    clear = student_interval(0.05, 0.001, 2, n=30, num_processes=3)
    made = [Comparison(case, str(i), "two_stage", "faster", None, lone if i else clear) for i in range(8)]
    assert [c.verdict for c in corrected(made)] == ["faster"] + 7 * ["inconclusive"]
    assert corrected(made[1:2])[0].verdict == "faster"


@pytest.mark.parametrize(("processes", "claim"), [(1, "one process"), (3, "holds not")])
def test_the_claim_is_judged_over_processes_alone(processes, claim):
    rows = [process(k, factor, name=name) for k in range(processes) for name, factor in (("a", 1.3), ("b", 1.4))]
    (summary,) = summarise(run_of(*rows))
    assert summary.claim() == claim
    first, second = verdict_lines([summary], "a machine")
    assert ("gives no verdict on the claim of 1.5x" in first) == (processes == 1)
    assert (f"{processes} processes a case" if processes > 1 else "one process a case") in second
    assert "(median 1.3" in second


def test_rounds_that_depend_on_the_one_before_are_doubted():
    slow = np.repeat(np.exp(np.random.default_rng(0).normal(0, 0.02, 10)), 6)
    row = case_row("a", {"two_stage": {"wall_ms": list(slow)}, "one_stage": {"wall_ms": [1.0] * 60}}, rounds=60)
    assert any("depends on that of the round before" in doubt for doubt in doubts(row, []))
    assert not any("depends" in doubt for doubt in doubts(process(0, rounds=60), []))


def test_a_process_that_lacks_an_arm_leaves_the_pairs_of_the_others():
    """As a row that somebody else sent may."""
    lacking = process(1)
    del lacking.arms["two_stage"]
    whole = timed_case([process(0), lacking, process(2)])
    found = compare(whole, "two_stage")
    assert found.speedup.num_processes == 2
    assert doubts(whole, [found])
