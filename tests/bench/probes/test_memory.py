import os
import time

import pytest
import torch

from bench.probes.memory import largest_batch, largest_that_fits, on_cpu
from osgan.errors import InputError


@pytest.mark.parametrize("limit", [32, 33, 100, 1000, 1023, 4096])
def test_the_largest_batch_is_found_to_an_eighth(limit):
    tried = []

    def objection(size):
        tried.append(size)
        return None if size <= limit else f"{size} are too many"

    found, ended_by = largest_that_fits(objection, 32)
    assert found <= limit < found + max(1, found // 8) + 1
    assert ended_by == f"{min(size for size in tried if size > limit)} are too many"
    assert len(tried) < 20


def test_no_batch_fits():
    assert largest_that_fits(lambda size: "no", 32) == (None, "no")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), InputError("there are 100 images")])
def test_the_largest_batch_says_what_ended_the_search(error, monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    class Arm(_Hog):
        def run(self, steps):
            if self.mib > 100:
                raise error

    found, ended_by = largest_batch(Arm, 32)
    assert 88 < found <= 100
    assert ended_by == ("memory" if isinstance(error, torch.OutOfMemoryError) else "there are 100 images")


@pytest.mark.parametrize("parts", [3, 4])
def test_only_batches_that_their_parts_share_equally_are_tried(parts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    tried = []

    class Arm(_Hog):
        def run(self, steps):
            tried.append(self.mib)
            if self.mib > 100:
                raise torch.OutOfMemoryError("CUDA")

    found, ended_by = largest_batch(Arm, parts, parts=parts)
    assert found == 96
    assert ended_by == "memory"
    assert {size % parts for size in tried} == {0}


class _Hog:
    """Takes memory as an arm would; picklable by name."""

    def __init__(self, mib):
        self.mib = mib

    def __call__(self):
        return lambda: self

    def turn(self):
        return torch.no_grad()

    def run(self, steps):
        for _ in range(steps):
            torch.ones(self.mib * 2**18).sum()  # freed again: the peak remains


class _Fatal(_Hog):
    def run(self, steps):
        os.kill(os.getpid(), 9)


def test_the_peak_of_a_process_of_its_own():
    small, large = (on_cpu(_Hog(mib), time.monotonic() + 60) for mib in (64, 512))
    # what the libraries take for themselves is in both
    growth = large["peak_resident_growth_mib"] - small["peak_resident_growth_mib"]
    assert growth == pytest.approx(512 - 64, abs=32)
    assert 64 <= small["peak_resident_growth_mib"] < 2 * 64
    assert small["peak_allocated_mib"] is None


def test_a_process_that_dies_gives_no_figure():
    assert on_cpu(_Fatal(1), time.monotonic() + 60)["peak_resident_growth_mib"] is None


class _Endless(_Hog):
    def run(self, steps):
        time.sleep(600)


def test_a_process_that_hangs_is_ended_at_the_deadline():
    assert on_cpu(_Endless(1), time.monotonic() + 0.5)["peak_resident_growth_mib"] is None
