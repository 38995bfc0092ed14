"""The table of cases of several processes."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import results
from bench.report import processes, scaling
from bench.report.columns import columns_of
from bench.report.document import Table
from tests.bench.rows import changed, with_

RUN = next((Path(__file__).parents[1] / "fixtures").glob("format-2/another-machine/*"))
MODEL = {"local_ms": 4.0, "predicted_ms": 5.0, "reduced_bytes": 3_000_000}


def run_with(*world_sizes):
    """Return a run of one case in so many processes each: in several, a step takes 6 ms, alone 3."""
    run = results.load(RUN)
    first = next(row for row in run.cases if row.status == "ok")
    cases = []
    for size in world_sizes:
        case = with_(first.case, world_size=size)
        row = with_(first, case=case, name=f"{first.name} {size} processes")
        for scheme, arm in row.arms.items():
            times = [3.0 if size == 1 else 6.0] * len(arm.wall_ms)
            row = changed(row, scheme, wall_ms=times, **(MODEL if size > 1 else {}))
        cases.append(row)
    return replace(run, cases=cases, manifest=with_(run.manifest, cases=[row.name for row in cases]))


def table_of(run):
    columns = columns_of([run])
    (column,) = columns
    return processes.table(columns, column)


def values_of(table):
    return [dict(zip(table.columns, (cell.value for cell in row.cells), strict=True)) for row in table.rows]


def test_efficiency_and_the_model_stand_beside_the_measurement():
    table = table_of(run_with(1, 4))
    rows = values_of(table)
    assert {row["scheme"] for row in rows} == set(run_with(1).cases[0].arms)
    for row in rows:
        assert row["ms a step"] == 6
        assert row["scaling efficiency"] == pytest.approx(0.5)
        assert row["ms without reductions"] == 4
        assert row["measured over predicted"] == pytest.approx(1.2)
        assert row["MB reduced"] == 3


def test_the_table_is_in_the_section_on_scaling():
    blocks = scaling.section(columns_of([run_with(1, 4)])).blocks
    assert any(isinstance(block, Table) and block.name == "processes" for block in blocks)


def test_without_the_case_of_one_process_there_is_no_efficiency():
    assert [row["scaling efficiency"] for row in values_of(table_of(run_with(2)))] == [None] * len(
        run_with(2).cases[0].arms
    )


def test_a_run_of_single_processes_has_no_such_table():
    assert table_of(run_with(1)) is None
    assert table_of(results.load(RUN)) is None
