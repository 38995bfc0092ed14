import json
import sys

import pytest
from safetensors.torch import load_file

from osgan.commands import cli


@pytest.fixture
def distill(monkeypatch, capsys, tmp_path):
    """Run `osgan distill` in this process with a cache of its own; return its exit status, output and errors."""

    def run(*arguments):
        shorter = ["--steps", "2", "--student-steps", "1", "--batch-size", "8", "--generator", "dfad+width=2"]
        cache = ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["osgan", "distill", *shorter, *cache, *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


TRAINED = ["--train-teacher", "--teacher-epochs", "1", "--teacher", "lenet5+width=0.5"]


def test_the_outcome_as_json_and_the_student_as_a_file(distill, tmp_path):
    file = tmp_path / "student.safetensors"
    status, out, _ = distill(*TRAINED, "--json", "--every", "1", "--output", str(file), "--scheme", "two_stage")
    found = json.loads(out)
    assert status == 0
    assert found["settings"]["scheme"] == "two_stage"
    assert found["settings"]["student_lr"] == 0.01
    assert found["teacher"]["network"] == "lenet5+width=0.5"
    assert [point["step"] for point in found["points"]] == [0, 1, 2]
    assert 0 <= found["student_accuracy"] <= 1
    assert found["held_out"].startswith("359 of 1797 images")
    assert load_file(file)["last.weight"].shape == (10, 42)


def test_a_table_and_a_cached_teacher(distill):
    assert distill(*TRAINED, "--json")[0] == 0
    status, out, _ = distill(*TRAINED[1:])  # no need to train again
    assert status == 0
    assert "one_stage: lenet5+width=0.5 to lenet5_half on digits" in out
    assert "ms a step" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheme", "onestage", *TRAINED], "unknown distillation scheme 'onestage'"),
        ([], "no trained teacher 'lenet5' for 'digits'"),
        (["--dataset", "synthetic+images=9"], "has no labels"),
        (["--loss", "l3", *TRAINED], "unknown distillation loss 'l3'"),
        (["--student-lr", "-1"], "student_lr must be a number above 0"),
        (["--student", "lenet", *TRAINED], "unknown classifier 'lenet'"),
    ],
)
def test_a_mistake_exits_2_with_one_message(distill, arguments, message):
    status, out, errors = distill(*arguments)
    assert status == 2
    assert message in errors
    assert out == ""
