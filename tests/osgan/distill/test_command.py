import errno
import json
import os
import sys
import tempfile
import warnings

import pytest
from safetensors.torch import load_file

from osgan.commands import cli
from osgan.distill import Distillation
from osgan.distill import teacher as teachers
from osgan.errors import InputWarning


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


def full_after(monkeypatch, folder, writes):
    """Let the disk of a folder be full after so many files."""
    written = []
    save = teachers.save_file

    def write(tensors, file):
        if folder in file.parents:
            written.append(file)
            if len(written) > writes:
                file.write_bytes(b"cut")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, file)

    monkeypatch.setattr(teachers, "save_file", write)


def test_a_disk_that_is_full_at_the_end_loses_neither_outcome_nor_student(distill, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full_after(monkeypatch, tmp_path / "full", 1)
    file = tmp_path / "full" / "student.safetensors"
    status, out, errors = distill(*TRAINED, "--json", "--output", str(file))
    assert status == 2
    assert json.loads(out)["points"]
    assert f"cannot write {file}: No space left on device; make room there" in errors
    rescued = errors.rpartition("the student is in ")[2].removesuffix(" instead\n")
    assert load_file(rescued)["last.weight"].shape == (10, 42)
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("place", ["full", "student.safetensors"])
def test_what_cannot_be_written_is_met_before_the_student_is_trained(distill, tmp_path, monkeypatch, place):
    monkeypatch.setattr(Distillation, "run", lambda *_: pytest.fail("it trains"))
    full_after(monkeypatch, tmp_path / "full", 0)
    file = tmp_path / place / "student.safetensors"
    (tmp_path / "student.safetensors").mkdir()
    file = file if place == "full" else file.parent
    status, out, errors = distill(*TRAINED, "--output", str(file))
    assert (status, out) == (2, "")
    assert f"cannot write {file}: " in errors


def test_a_teacher_that_cannot_be_kept_still_teaches(distill, tmp_path, monkeypatch):
    full_after(monkeypatch, tmp_path / "cache", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("default", InputWarning)
        status, _, errors = distill(*TRAINED)
    assert status == 0
    assert "warning: the teacher is not kept: cannot write" in errors


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
