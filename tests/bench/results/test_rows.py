"""What a row can be, and what becomes of what cannot be one."""

import json
import math

import pytest
from pydantic import ValidationError

from bench import results
from bench.results.manifest import Manifest
from bench.results.rows import Arm, CaseRow, Point, QualityRow
from osgan.errors import InputError
from tests.bench.rows import CASE, case_row, manifest

ARM = {"status": "ok", "wall_ms": [1.0, 2.0]}
FOUND = {"name": "a", "case": CASE, "status": "ok", "arms": {"one_stage": ARM}}
TRAINED = FOUND | {"variant": "plain", "seed": 0, "arms": {}}


@pytest.mark.parametrize(
    "arm",
    [
        {"status": "fine"},
        {"status": "ok"},  # without a time
        ARM | {"wall_ms": [1.0, 0.0]},
        ARM | {"wall_ms": [1.0, -1.0]},
        ARM | {"wall_ms": [1.0, math.nan]},
        ARM | {"wall_ms": [1.0, math.inf]},
        ARM | {"wall_ms": [1.0, None]},
        ARM | {"wall_ms": 3},
        ARM | {"device_ms": [1.0]},  # another number of rounds
        ARM | {"flops": -1},
        ARM | {"kernels": 1.5},
        ARM | {"steady": "perhaps"},
        ARM | {"largest_batch": 0},
        ARM | {"wall_mz": [1.0]},
        *(
            ARM | {"samples": path}
            for path in ("/etc/passwd", "../x.png", "samples/../../x.png", "run.json", "samples", 3)
        ),
        ARM | {"samples": "samples/a\0.png"},
        ARM | {"samples": "samples\\..\\x.png"},
    ],
)
def test_what_no_arm_can_be_is_refused(arm):
    with pytest.raises(ValidationError):
        Arm.model_validate(arm)


def test_what_an_arm_can_be():
    arm = Arm.model_validate(ARM | {"flops": 0, "busy_ms": 0.0, "samples": "samples/a b/one_stage.png"})
    assert (arm.flops, arm.busy_ms, arm.kernels) == (0, 0.0, None)


@pytest.mark.parametrize("lengths", [(2, 3), (1, 1)])
def test_arms_have_the_same_rounds_and_at_least_two(lengths):
    arms = {f"s{index}": {"wall_ms": [1.0] * length} for index, length in enumerate(lengths)}
    with pytest.raises(ValidationError, match="same number of rounds"):
        case_row(arms=arms)
    arms["s1"] |= {"status": "failed"}
    if lengths[0] > 1:
        assert case_row(arms=arms).arms["s1"].wall_ms


def test_a_row_is_written_whole_and_read_back_the_same(tmp_path):
    path = results.create(tmp_path, manifest(), "20260101T000000Z")
    rows = [results.row_of(FOUND | {"started": "2026-11-27T10:00:00+00:00"}), results.row_of(TRAINED)]
    for row in rows:
        results.append(path, row)
    loaded = results.load(path)
    assert loaded.rows == rows
    assert not loaded.remarks
    for name, kind in ((results.CASES, CaseRow), (results.QUALITY, QualityRow)):
        assert json.loads((path / name).read_text()).keys() == kind.model_fields.keys()


def test_what_cannot_be_a_row_is_a_failed_one_that_keeps_it_all(tmp_path):
    path = results.create(tmp_path, manifest(), "20260101T000000Z")
    found = FOUND | {"rounds": -1, "what": {1, 2}}
    results.append(path, results.row_of(found))
    loaded = results.load(path)
    (row,) = loaded.cases
    assert (row.status, row.arms, loaded.remarks) == ("failed", {}, [])
    assert "rounds: Input should be greater than or equal to 0" in row.reason
    assert "what: Extra inputs are not permitted" in row.reason
    assert row.refused["arms"] == {"one_stage": ARM}
    trained = results.row_of(TRAINED | {"metric": 3})
    assert (type(trained), trained.seed, trained.refused["metric"]) == (QualityRow, 0, 3)


def test_a_number_that_is_not_finite_is_a_missing_one():
    points = [{"images": 8, "seconds": 0.5, "average": {"FD": math.nan}, "raw": {"FD": math.inf}}]
    row = results.row_of(TRAINED | {"arms": {"one_stage": {"status": "ok", "points": points}}})
    assert row.arms["one_stage"].points == (Point(images=8, seconds=0.5, average={"FD": None}, raw={"FD": None}),)
    assert "NaN" not in row.model_dump_json()


def test_a_key_of_a_later_writer_is_kept_and_disturbs_nothing(tmp_path):
    path = results.create(tmp_path, manifest(), "20260101T000000Z")
    arm = ARM | {"later": 3}
    (path / results.CASES).write_text(json.dumps(FOUND | {"later": [1], "arms": {"one_stage": arm}}) + "\n")
    loaded = results.load(path)
    assert not loaded.remarks
    assert loaded.cases[0].model_extra == {"later": [1]}
    assert loaded.cases[0].arms["one_stage"].model_extra == {"later": 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cases", "a"),
        ("cases", None),
        ("machine", None),
        ("machine", {}),
        ("suite", {"name": "s"}),
        ("started", "today"),
    ],
)
def test_a_manifest_of_another_shape_names_the_file_and_the_key(tmp_path, key, value):
    path = results.create(tmp_path, manifest(), "20260101T000000Z")
    content = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(InputError, match=rf"run\.json is damaged: {key}"):
        results.load(path)


def test_the_suite_stands_in_a_manifest_whole():
    whole = manifest(suite={"memory": {"largest_batch": True}, "optimizer": {"betas": [0.5, 0.9]}})
    again = Manifest.model_validate_json(whole.model_dump_json(), strict=True)
    assert again == whole
    assert again.suite.model_dump()["memory"] == {"largest_batch": True}
    kept = again.suite.optimizer.model_dump()
    assert kept["betas"] == [0.5, 0.9]
    assert {key: value for key, value in kept.items() if value is not None} == {
        "n_critic": 1,
        "accumulate": 1,
        "betas": [0.5, 0.9],
    }
