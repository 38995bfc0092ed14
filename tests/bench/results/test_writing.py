import errno
import os

import pytest
import torch

from bench.results import UnwritableError, grids, store
from bench.results.writing import append_line, write_atomically, write_within
from osgan.errors import InputError
from tests.bench.rows import manifest


@pytest.fixture
def full(monkeypatch):
    """A disk that is full as soon as something is to be on it."""

    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path, full):
    (tmp_path / "cases.jsonl").write_bytes(b"first\n")
    with pytest.raises(UnwritableError, match=f"make room and go on with: python -m bench run --resume {tmp_path}"):
        append_line(tmp_path, "cases.jsonl", "'a'", b"second\n")
    assert (tmp_path / "cases.jsonl").read_bytes() == b"first\n"


def test_a_file_is_whole_or_not_there(tmp_path, full):
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_begun_leaves_no_folder(tmp_path, full):
    with pytest.raises(InputError, match="make room or choose another place with --results"):
        store.create(tmp_path, manifest(suite={"name": "tiny"}), "now")
    assert list((tmp_path / "tiny").iterdir()) == []


def test_samples_that_do_not_fit_end_the_run_and_not_the_arm(tmp_path, full):
    with pytest.raises(UnwritableError, match="one_stage"):
        grids.save_grid(tmp_path, "case", "one_stage", torch.zeros(4, 3, 8, 8))


def test_a_run_that_was_removed_is_not_made_again(tmp_path):
    with pytest.raises(UnwritableError, match="was removed"):
        write_within(tmp_path / "gone", "samples/case/a.png", b"")
    with pytest.raises(UnwritableError, match="was removed"):
        append_line(tmp_path / "gone", "cases.jsonl", "'a'", b"")
    assert list(tmp_path.iterdir()) == []
