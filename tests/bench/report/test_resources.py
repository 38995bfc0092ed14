"""The section on memory: what ended the search for the largest batch."""

from bench.report import resources
from bench.report.columns import columns_of
from bench.report.document import Table
from tests.bench.rows import case_row, run_of

TIMED = {"wall_ms": [1.0, 1.0]}
DATA = "the batch size 2048 is larger than the 1024 images"


def largest_batch_of(**arms):
    row = case_row("a", {scheme: TIMED | found for scheme, found in arms.items()}, rounds=2)
    blocks = resources.memory(columns_of([run_of(row)])).blocks
    return next(block for block in blocks if isinstance(block, Table) and block.name == "largest-batch")


def test_a_batch_that_the_data_ends_is_no_measure_of_the_memory():
    table = largest_batch_of(
        two_stage={"largest_batch": 768, "largest_batch_ended_by": "memory"},
        one_stage={"largest_batch": 1024, "largest_batch_ended_by": DATA},
    )
    assert [cell.text for cell in table.rows[0].cells[1:]] == ["768", "at least 1,024"]
    assert table.note == f"at least: {DATA}"


def test_older_rows_do_not_say_what_ended_it():
    table = largest_batch_of(two_stage={"largest_batch": 768}, one_stage={"largest_batch": None})
    assert [cell.text for cell in table.rows[0].cells[1:]] == ["768", "-"]
    assert table.note == ""
