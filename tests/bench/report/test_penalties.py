"""The section on what a step costs with a penalty."""

import pytest

from bench.report import penalties
from bench.report.columns import columns_of
from tests.bench.rows import case_row, run_of

SCHEMES = {"schemes": ["two_stage_frozen", "one_stage"]}


def row(loss, flops=(100, 80), ms=(4.0, 2.0), marks=None, **case):
    arms = {
        scheme: {"wall_ms": [m] * 5, "flops": f}
        for scheme, f, m in zip(SCHEMES["schemes"], flops, ms, strict=True)
    }  # fmt: skip
    arms["one_stage"] |= marks or {}
    return case_row(f"{loss} {case}", arms, {"loss": loss} | case, rounds=5)


def tables_of(*rows):
    return penalties.section(columns_of([run_of(*rows, suite=SCHEMES)])).blocks


def shown(table):
    return [[(cell.text, cell.note) for cell in row.cells] for row in table.rows]


def test_costs_are_over_the_baseline_with_the_exact_penalties():
    (table,) = tables_of(row("rpgan", (50, 25), (3.0, 1.0)), row("rpgan+r1=1+r2=1"), row("rpgan+ar1=1+share=0.25"))
    assert table.columns == ["penalties", "two_stage_frozen", "one_stage"]
    assert table.title == "rpgan"
    assert shown(table) == [
        [("none", ""), ("0.50", "0.75 of its time"), ("0.25", "0.25 of its time")],
        [("r1=1 + r2=1", ""), ("1.00", "1.00 of its time"), ("0.80", "0.50 of its time")],
        [("ar1=1 + share=0.25", ""), ("1.00", "1.00 of its time"), ("0.80", "0.50 of its time")],
    ]


def test_cases_that_differ_in_anything_else_are_not_compared():
    rows = [row("rpgan"), row("rpgan+r1=1", augmentation="ada"), row("hinge+r1=1"), row("rpgan+r1=1", batch_size=16)]
    assert tables_of(*rows) == []
    both = tables_of(*rows, row("rpgan", augmentation="ada"), row("rpgan+r1=1/16"))
    assert [table.title for table in both] == ["rpgan, batch 8, not augmented", "rpgan, batch 8, augmented by ada"]
    assert len({table.name for table in both}) == 2


def test_an_approximate_penalty_is_no_exact_one():
    assert tables_of(row("rpgan"), row("rpgan+ar1=1")) == []
    assert tables_of(row("rpgan+r1=1")) == []
    (table,) = tables_of(row("wgan"), row("wgan+gradient_penalty=10"))
    assert [line[0] for line in shown(table)] == [("none", ""), ("gradient_penalty=10", "")]


@pytest.mark.parametrize(
    ("marks", "mark"),
    [
        ({"ran_as": "simultaneous", "ran_as_because": "it mixes samples"}, " \N{DAGGER}"),
        ({"overrides": {"discriminator_lr": 1e-5}}, " UNMATCHED"),
    ],
)
def test_a_case_bears_its_mark_here_too(marks, mark):
    (table,) = tables_of(row("rpgan", marks=marks), row("rpgan+r1=1"))
    assert table.rows[0].cells[0].text == f"none{mark}"


def test_what_was_not_counted_or_timed_is_missing():
    lost = {"status": "failed", "reason": "x", "flops": None, "wall_ms": ()}
    untimed = {"status": "failed", "reason": "x", "wall_ms": ()}
    (table,) = tables_of(row("rpgan", marks=lost), row("rpgan+r1=1", marks=untimed))
    assert shown(table)[0][2] == ("-", "")
    assert shown(table)[1][2] == ("0.80", "")
    assert tables_of(row("rpgan"), row("rpgan+r1=1", (None, None)))[0].rows[0].cells[1].value is None
