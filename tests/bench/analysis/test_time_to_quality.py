import pytest

from bench.analysis.passage import Passage
from bench.analysis.time_to_quality import best_baseline, studies
from bench.analysis.trained import COLLAPSE, Trained
from tests.bench.rows import case_row, changed, quality_row, run_of


def _trained(values, seconds=None, seed=0, failure=None):
    seconds = seconds or [10.0 * (i + 1) for i in range(len(values))]
    return Trained(seed, [100 * (i + 1) for i in range(len(values))], seconds, values, values, failure)


def test_a_run_without_points_has_no_final_value():
    assert _trained([]).final is None


def test_a_failed_run_has_no_final_value():
    assert _trained([100, 50], failure="NonFiniteLossError: ...").final is None


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


def _run(*rows, variants=("plain",), targets=(1.0,), images=200):
    plan = {"variants": {variant: {} for variant in variants}, "targets": list(targets), "seeds": 3}
    suite = {"quality": plan | {"images": images, "evaluate_every": 100}}
    return run_of(quality=rows, suite=suite)


def test_time_to_quality_by_hand():
    # An image takes two_stage 0.1, 0.2, 0.3 s and one_stage 0.1; both are there after 200, 300 and 200 images.
    values = [[90, 50, 50], [90, 70, 50], [90, 50, 40]]
    rows = [
        _row(
            seed,
            {"two_stage": (values[seed], [n * rate for n in (10, 20, 30)]), "one_stage": (values[seed], [10, 20, 30])},
        )
        for seed, rate in enumerate((1, 2, 3))
    ]
    (study,) = studies(_run(*rows, images=300))
    (level,) = study.levels
    assert (level.factor, level.value, study.baseline) == (1.0, 50, "two_stage")
    mine, theirs = level.reached["one_stage"], level.reached["two_stage"]
    assert [found.images for found in mine.passages.values()] == [200, 300, 200]
    assert (mine.num_reached, mine.images, mine.seconds) == (3, pytest.approx(700 / 3), pytest.approx(70 / 3))
    assert theirs.seconds == pytest.approx(0.2 * 700 / 3)  # at the median of its three paces
    (found,) = study.contests()
    assert (found.scheme, found.other, found.censored, found.num_seeds) == ("one_stage", "two_stage", (0, 0), 3)
    assert (found.images.estimate, found.images.log_se) == (1, 0)
    # One-stage ends after 30 s, which cuts off two_stage's 40, 60 and 40 s.
    assert found.time.estimate == pytest.approx(90 / 70)


def test_the_step_of_the_harness_sets_the_pace_where_it_was_timed():
    curve = ([100, 90, 80, 50], [1, 2, 3, 4])
    rows = [_row(seed, {"two_stage": curve, "one_stage": curve}) for seed in range(3)]
    arms = {"two_stage": {"wall_ms": (16.0, 16.0, 16.0)}, "one_stage": {"wall_ms": (8.0, 8.0, 8.0)}}
    timed = [case_row("case", arms, process=process) for process in range(2)]
    plan = {"variants": {"plain": {}}, "targets": [1.8], "seeds": 3, "images": 400, "evaluate_every": 100}
    (study,) = studies(run_of(*timed, quality=rows, suite={"quality": plan}))
    assert study.pace.timed
    assert study.pace.seconds_an_image("one_stage") == pytest.approx(8e-3 / 8)  # a batch of 8
    (found,) = study.contests()
    assert study.levels[0].reached["two_stage"].seconds == pytest.approx(200 * 2e-3)
    assert found.time.estimate == pytest.approx(2.0)
    # A case of which an arm has no time is paced by the trainings' own clocks.
    del arms["two_stage"]
    (study,) = studies(run_of(case_row("case", arms), quality=rows, suite={"quality": plan}))
    assert not study.pace.timed
    assert next(study.contests()).time.estimate == pytest.approx(1.0)


def test_a_seed_that_never_gets_there_counts_with_all_its_images():
    better, worse = ([100, 40], [10, 20]), ([100, 90], [10, 20])
    rows = [_row(s, {"two_stage": better, "one_stage": worse if s == 1 else better}) for s in range(3)]
    (study,) = studies(_run(*rows))
    mine = study.levels[0].reached["one_stage"]
    assert mine.num_reached == 2
    assert mine.passages[1] == Passage(200, reached=False)
    assert next(study.contests()).censored == (1, 0)


def test_where_nobody_gets_there_no_ratio_is_taken():
    slow, fast = ([100, 90], [10, 20]), ([100, 90], [7, 14])
    rows = [_row(s, {"two_stage": slow, "one_stage": fast}) for s in range(3)]
    plan = {"variants": {"plain": {}}, "targets": [], "levels": [50.0], "seeds": 3}
    (study,) = studies(run_of(quality=rows, suite={"quality": plan | {"images": 200, "evaluate_every": 100}}))
    (found,) = study.contests()
    assert (found.images, found.time) == (None, None)
    assert found.distance is not None


def test_the_suites_level_comes_first_and_is_of_the_scheme_that_it_names():
    rows = [_row(s, {"two_stage": ([100, 40], [1, 2]), "two_stage_frozen": ([100, 20], [1, 2])}) for s in range(2)]
    cured = [_row(s, {"two_stage": ([100, 30], [1, 2])}, "r1") for s in range(2)]
    for variant, expected in ((None, [50, 37.5]), ("plain", [50, 50])):
        level = {"factor": 1.25, "baseline": "two_stage", "variant": variant}
        plan = {"variants": {"plain": {}, "r1": {}}, "targets": [1.0], "level": level, "seeds": 2}
        run = run_of(quality=[*rows, *cured], suite={"quality": plan | {"images": 200, "evaluate_every": 100}})
        found = studies(run)
        assert [study.levels[0].value for study in found] == expected
        assert [study.levels[1].value for study in found] == [20, 20]
        assert {study.levels[0].baseline for study in found} == {"two_stage"}


def test_a_seed_without_any_training_is_counted():
    rows = [_row(s, {"one_stage": ([100, 50], [1, 2])}) for s in range(2)]
    lost = quality_row("case", 2, "plain", {}, status="failed", reason="not finished within the time limit")
    (study,) = studies(_run(*rows, lost))
    assert study.num_lost == 1


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
    reached = study.levels[0].reached["one_stage"]
    assert (reached.num_reached, len(reached.passages)) == (2, 3)
    assert next(study.contests()).num_seeds == 3
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


def test_what_is_there_at_the_first_evaluation_gives_no_ratio():
    early, late = ([40, 30], [10, 20]), ([90, 30], [10, 20])
    rows = [_row(s, {"two_stage": late, "one_stage": early if s < 2 else late}) for s in range(3)]
    plan = {"variants": {"plain": {}}, "targets": [], "levels": [50.0], "seeds": 3, "images": 200}
    (study,) = studies(run_of(quality=rows, suite={"quality": plan | {"evaluate_every": 100}}))
    (found,) = study.contests()
    assert (found.images, found.time, found.at_first) == (None, None, (2, 0))
    assert found.distance is not None
