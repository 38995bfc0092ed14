"""Who is as good sooner over all cases: means of those that have a ratio."""

import pytest

from bench.analysis.contests import STRONGEST, overall
from bench.analysis.speedup import PAPER_BASELINE
from bench.analysis.time_to_quality import studies
from tests.bench.rows import quality_row, run_of

LEVEL = 50.0


def rows(name, passages, schemes=("two_stage", "two_stage_reused_frozen", "one_stage")):
    """Return two seeds of a case whose schemes are at the level after so many evaluations of 1 s each."""
    found = []
    for seed in range(2):
        arms = {}
        for scheme, after in zip(schemes, passages, strict=True):
            values = [100.0] * (after - 1) + [LEVEL - 1] * (9 - after)
            points = [
                {"images": 100 * (i + 1), "seconds": float(i + 1), "average": {"FD": v}, "raw": {}}
                for i, v in enumerate(values[:8])
            ]
            arms[scheme] = {"status": "ok", "points": points}
        found.append(quality_row(name, seed, "plain", arms, metric="FD"))
    return found


def found(*cases):
    plan = {"images": 800, "evaluate_every": 100, "targets": [], "levels": [LEVEL], "seeds": 2}
    run = run_of(quality=[row for case in cases for row in case], suite={"quality": plan})
    return {(one.scheme, one.role): one for one in overall(studies(run))}


def test_the_mean_is_geometric_and_the_strongest_is_each_cases_own():
    means = found(rows("a", (6, 4, 2)), rows("b", (3, 6, 4)))
    paper, strongest = means["one_stage", PAPER_BASELINE], means["one_stage", STRONGEST]
    assert (paper.num_cases, paper.num_known, paper.num_seeds, paper.seeds) == (2, 2, 4, (2, 2))
    shares = [paper.contests[n].images.estimate for n in range(2)]
    assert paper.images.estimate == pytest.approx((shares[0] * shares[1]) ** 0.5)
    assert shares[0] > 1 > shares[1]
    assert [contest.other for contest in strongest.contests] == ["two_stage_reused_frozen", "two_stage"]


def test_a_case_without_a_ratio_is_counted_and_in_no_mean():
    means = found(rows("a", (6, 4, 2)), rows("b", (1, 1, 1)), rows("c", (9, 9, 9)))
    paper = means["one_stage", PAPER_BASELINE]
    assert (paper.num_cases, paper.num_known) == (3, 1)
    assert paper.time.estimate == pytest.approx(paper.contests[0].time.estimate)
    assert paper.censored == (2, 2)
    assert paper.at_first == (2, 2)


def test_two_gradients_a_step_are_no_contestant():
    schemes = ("two_stage", "simultaneous", "one_stage_staggered")
    assert {scheme for scheme, _ in found(rows("a", (6, 4, 2), schemes))} == {"one_stage_staggered"}
