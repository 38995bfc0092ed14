"""What the section on quality says of seeds that were lost and of settings at the edge."""

from bench.report.columns import columns_of
from bench.report.endings import case_doubts
from bench.report.quality import section
from tests.bench.rows import quality_row, run_of

PLAN = {"images": 200, "evaluate_every": 100, "seeds": 3}
POINTS = [{"images": 100 * n, "seconds": float(n), "average": {"FD": 90.0 / n}, "raw": {}} for n in (1, 2)]


def test_a_seed_without_any_training_is_said_beside_its_study():
    rows = [quality_row("case", seed, arms={"two_stage": {"points": POINTS}}, metric="FD") for seed in range(2)]
    lost = quality_row("case", 2, arms={}, status="failed", reason="not finished within the time limit")
    for quality, note in (([*rows, lost], "Seeds without any training: 1; in no number here."), (rows, "")):
        blocks = section(columns_of([run_of(quality=quality, suite={"quality": PLAN})])).blocks
        (table,) = [block for block in blocks if getattr(block, "name", "") == "time-to-quality-0"]
        assert table.note == note


def test_a_setting_at_the_edge_of_the_space_is_a_doubt():
    tune = {"images": 10, "space": {"generator_lr": [1e-4, 1e-2]}, "trials": 1}
    for lr, doubted in ((1.1e-4, 1), (1e-3, 0)):
        setting = {"generator_lr": lr}
        search = {"trials": [{"setting": setting, "value": 9.0}], "setting": setting}
        row = quality_row("case", None, tuned={"one_stage": search}, metric="FD")
        columns = columns_of([run_of(quality=[row], suite={"quality": PLAN | {"tune": tune}})])
        found = case_doubts(columns, next(iter(columns)))
        assert len(found) == doubted
        assert all("lies at the edge of the space" in doubt and "generator_lr" in doubt for _, doubt in found)
