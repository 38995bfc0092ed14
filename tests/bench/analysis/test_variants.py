"""Variants against each other."""

import math

import pytest
from scipy.stats import t

from bench.analysis.time_to_quality import studies
from bench.analysis.variants import contrasts
from tests.bench.rows import quality_row, run_of

SECONDS = {"exact": (10, 20, 30), "approximate": (5, 10, 15)}


def row(seed, variant, values, scheme="one_stage", status="ok"):
    points = [
        {"images": 100 * (i + 1), "seconds": s, "average": {"FD": v}, "raw": {"FD": v}}
        for i, (v, s) in enumerate(zip(values, SECONDS[variant], strict=False))
    ]
    arm = {"status": status, "reason": None if status == "ok" else "broke", "points": points}
    return quality_row("case", seed, variant, {scheme: arm}, status=status, metric="FD")


def found(*rows):
    plan = {"variants": {"exact": {}, "approximate": {}}, "images": 300, "evaluate_every": 100}
    return list(contrasts(studies(run_of(quality=rows, suite={"quality": plan}))))


def test_both_ratios_by_hand():
    exact = [row(seed, "exact", (90, 60, 40 + seed)) for seed in range(3)]
    approximate = [row(seed, "approximate", (99, 66, 50 + 2 * seed)) for seed in range(3)]
    (contrast,) = found(*approximate, *exact)
    assert (contrast.study.variant, contrast.study.reference, contrast.scheme) == ("approximate", "exact", "one_stage")
    logs = [math.log(b / a) for a, b in ((40, 50), (41, 52), (42, 54))]
    mean = sum(logs) / 3
    half = t.ppf(0.975, 2) * math.sqrt(sum((x - mean) ** 2 for x in logs) / 2 / 3)
    at_images = contrast.at_images
    assert (at_images.estimate, at_images.low, at_images.high) == pytest.approx(
        (math.exp(mean), math.exp(mean - half), math.exp(mean + half))
    )
    # Approximate ends after 15 s, where exact is half-way from 90 to 60.
    assert contrast.at_seconds.estimate == pytest.approx((50 * 52 * 54) ** (1 / 3) / 75)


def test_of_two_schemes_each_is_compared_with_itself():
    rows = [row(s, v, (n, n, n + s)) for s in range(2) for v, n in (("exact", 10), ("approximate", 10))]
    other = [row(s, v, (n, n, n), "two_stage") for s in range(2) for v, n in (("exact", 10), ("approximate", 20))]
    shown = {c.scheme: c.at_images.estimate for c in found(*rows, *other)}
    assert shown == pytest.approx({"one_stage": 1, "two_stage": 2})


@pytest.mark.parametrize("lost", ["exact", "approximate"])
def test_a_seed_that_failed_leaves_no_ratio(lost):
    rows = [
        row(seed, variant, (90, 60, 40), status="failed" if (seed, variant) == (1, lost) else "ok")
        for seed in range(3)
        for variant in SECONDS
    ]
    (contrast,) = found(*rows)
    assert contrast.at_images is None
    assert contrast.at_seconds is None


def test_a_seed_that_one_of_them_lacks_leaves_no_ratio():
    rows = [row(seed, variant, (90, 60, 40)) for seed in range(3) for variant in SECONDS]
    for lost in (2, 3):  # the second seed's exact, its approximate
        assert [c.at_images for c in found(*rows[:lost], *rows[lost + 1 :])] == [None]
    assert found(*rows)[0].at_images.estimate == 1


def test_who_ends_before_the_other_was_judged_has_no_ratio_at_equal_seconds():
    rows = [row(seed, "exact", (90, 60, 40)) for seed in range(2)]
    rows += [row(seed, "approximate", (99,)) for seed in range(2)]  # ends after 5 s, exact is first judged after 10
    (contrast,) = found(*rows)
    assert contrast.at_seconds is None
    assert contrast.at_images.estimate == pytest.approx(99 / 40)


def test_one_variant_alone_is_compared_with_nothing():
    assert found(*(row(seed, "approximate", (9, 9, 9)) for seed in range(2))) == []
