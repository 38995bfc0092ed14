import math

import pytest
from scipy.stats import t

from bench.analysis.time_to_quality import COLLAPSE, Trained, best_baseline, studies
from tests.bench.rows import changed, quality_row, run_of


def _trained(values, seconds=None, seed=0, failure=None):
    seconds = seconds or [10.0 * (i + 1) for i in range(len(values))]
    return Trained(seed, [100 * (i + 1) for i in range(len(values))], seconds, values, values, failure)


@pytest.mark.parametrize(
    ("target", "seconds"),
    [(100, 10.0), (120, 10.0), (80, 15.0), (60, 20.0), (70, 17.5), (30, 40.0), (29, None)],
)
def test_between_evaluations_the_curve_is_a_line(target, seconds):
    run = _trained([100, 60, 90, 30])
    assert run.seconds_to(target) == (None if seconds is None else pytest.approx(seconds))


def test_what_counts_is_the_first_time_not_the_last():
    assert _trained([100, 40, 200, 40]).seconds_to(40) == pytest.approx(20.0)


def test_a_run_without_points_reaches_nothing():
    assert _trained([]).seconds_to(1e9) is None
    assert _trained([]).final is None


def test_a_failed_run_reaches_what_it_reached_before_and_has_no_final_value():
    run = _trained([100, 50], failure="NonFiniteLossError: ...")
    assert run.seconds_to(50) == pytest.approx(20.0)
    assert run.final is None


@pytest.mark.parametrize(("values", "collapsed"), [([100, 50, 99], False), ([100, 50, 50 * COLLAPSE + 1], True)])
def test_a_collapse_is_the_loss_of_what_a_run_had(values, collapsed):
    assert _trained(values).collapsed is collapsed


def _row(seed, curves, variant="plain", name="case", failed=()):
    """Return a row; curves: scheme -> (values, seconds)."""
    arms = {}
    for scheme, (values, seconds) in curves.items():
        points = [
            {"images": 100 * (i + 1), "seconds": s, "average": {"FD": v}, "raw": {"FD": None if v is None else 2 * v}}
            for i, (v, s) in enumerate(zip(values, seconds, strict=True))
        ]
        lost = scheme in failed
        arms[scheme] = {"status": "failed" if lost else "ok", "reason": "broke" if lost else None, "points": points}
    return quality_row(name, seed, variant, arms, status="failed" if failed else "ok", metric="FD")


def _run(*rows, variants=("plain",), targets=(1.0,)):
    plan = {"variants": {variant: {} for variant in variants}, "targets": list(targets), "seeds": 3}
    suite = {"quality": plan | {"images": 200, "evaluate_every": 100}}
    return run_of(quality=rows, suite=suite)


def test_the_speedup_in_time_to_quality_by_hand():
    # two_stage is there after exactly 20, 30, 40 s; one_stage after 10, 10, 10
    seconds = [(20, 10), (30, 10), (40, 10)]
    rows = [
        _row(seed, {"two_stage": ([100, 50], [theirs / 2, theirs]), "one_stage": ([100, 50], [mine / 2, mine])})
        for seed, (theirs, mine) in enumerate(seconds)
    ]
    (study,) = studies(_run(*rows))
    (level,) = study.levels
    assert (level.factor, level.value, study.baseline) == (1.0, 50, "two_stage")
    found = level.of("two_stage").speedup
    logs = [math.log(2), math.log(3), math.log(4)]
    mean = sum(logs) / 3
    deviation = math.sqrt(sum((x - mean) ** 2 for x in logs) / 2)
    half = t.ppf(0.975, 2) * deviation / math.sqrt(3)
    assert found.estimate == pytest.approx(24 ** (1 / 3))
    assert (found.low, found.high) == pytest.approx((math.exp(mean - half), math.exp(mean + half)))
    assert found.n == 3
    assert level.of("one_stage").speedup is None
    assert level.of("one_stage").median_s == 10


def test_a_seed_that_never_gets_there_leaves_no_speedup_but_a_count():
    better, worse = ([100, 40], [10, 20]), ([100, 90], [10, 20])
    rows = [_row(s, {"two_stage": better, "one_stage": worse if s == 1 else better}) for s in range(3)]
    (study,) = studies(_run(*rows))
    mine = study.levels[0].of("one_stage")
    assert (mine.num_reached, mine.seconds, mine.median_s) == (2, [20, None, 20], 20)
    assert study.levels[0].of("two_stage").speedup is None


def test_a_failed_seed_is_counted_and_never_dropped():
    curve = ([100, 50], [10, 20])
    rows = [
        _row(s, {"two_stage": curve, "one_stage": curve}, failed=("one_stage",) if s == 2 else ()) for s in range(3)
    ]
    rows[2] = changed(rows[2], "one_stage", points=())
    (study,) = studies(_run(*rows))
    assert len(study.arms["one_stage"]) == 3
    assert study.failures("one_stage") == (1, 0)
    assert study.finals("one_stage") == [50, 50]
    reached = study.levels[0].of("one_stage")
    assert (reached.num_reached, len(reached.seconds)) == (2, 3)
    assert study.levels[0].of("two_stage").speedup is None
    assert study.gap is None


def test_images_that_are_not_finite_are_a_failure():
    rows = [_row(s, {"two_stage": ([100, 50], [1, 2]), "one_stage": ([100, None], [1, 2])}) for s in range(2)]
    (study,) = studies(_run(*rows))
    assert study.failures("one_stage") == (2, 0)
    assert study.finals("one_stage") == []


def test_the_best_baseline_has_the_lowest_median_and_no_failed_seed():
    arms = {
        "two_stage": [_trained([60]), _trained([50]), _trained([55])],
        "two_stage_frozen": [_trained([10]), _trained([10]), _trained([10], failure="broke")],
        "two_stage_reused": [_trained([99]), _trained([40]), _trained([45])],
        "one_stage": [_trained([1])] * 3,
    }
    assert best_baseline(arms) == "two_stage_reused"
    assert best_baseline({"two_stage_frozen": arms["two_stage_frozen"]}) == "two_stage_frozen"
    assert best_baseline({"one_stage": arms["one_stage"]}) is None


def test_targets_are_multiples_of_the_plain_baselines_median():
    plain = [
        _row(s, {"two_stage": ([100, v], [1, 2]), "one_stage": ([100, 80], [1, 2])}) for s, v in ((0, 40), (1, 60))
    ]
    cured = [_row(s, {"two_stage": ([9, 9], [1, 2]), "one_stage": ([100, 45], [1, 2])}, "r1") for s in range(2)]
    found = studies(_run(*cured, *plain, variants=("plain", "r1"), targets=(1.0, 2.0)))
    assert [study.variant for study in found] == ["plain", "r1"]
    for study in found:
        assert [(level.factor, level.value) for level in study.levels] == [(1.0, 50), (2.0, 100)]
        assert study.baseline == "two_stage"


def test_the_gap_is_one_stages_final_value_over_the_plain_baselines_seed_by_seed():
    plain = [_row(s, {"two_stage": ([v], [1]), "one_stage": ([3 * v], [1])}) for s, v in enumerate((40, 50, 60))]
    cured = [_row(s, {"one_stage": ([v / 2], [1])}, "r1") for s, v in enumerate((40, 50, 60))]
    found = studies(_run(*plain, *cured, variants=("plain", "r1")))
    assert [study.gap.estimate for study in found] == pytest.approx([3.0, 0.5])
    assert found[1].gap.high == pytest.approx(0.5)  # the same ratio with every seed


def test_a_search_for_settings_is_no_study():
    search = quality_row("case", None, metric="FD", tuned={})
    assert studies(_run(search)) == []
