"""What held the GPU's clocks down while it worked, though it is looked at when it idles."""

import pytest
import torch

from bench.machine import watch
from bench.machine.nvidia import Gpu
from bench.machine.watch import Watch


class Counting(Gpu):
    """A GPU whose counters go on between readings, and which idles whenever it is looked at."""

    def __init__(self, *readings, seen=()):
        self.readings, self.seen = list(readings), list(seen)

    def held_down_s(self):
        return self.readings.pop(0)

    def throttling(self):
        return self.seen

    def sm_clock_mhz(self):
        return 1980

    def power_limit_watts(self):
        return 700.0


@pytest.fixture
def ten_seconds(monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(watch.time, "perf_counter", lambda: next(clock))


def notes_of(gpu):
    watched = Watch(torch.device("cpu"), gpu)
    watched.look()
    return watched.notes()


@pytest.mark.parametrize(("power_s", "expected"), [(0.05, []), (0.2, ["power"])])
def test_the_counters_tell_what_the_pause_between_rounds_hides(ten_seconds, power_s, expected):
    gpu = Counting({"power": 5.0, "thermal": 1.0}, {"power": 5.0 + power_s, "thermal": 1.0})
    assert notes_of(gpu)["throttling"] == expected


def test_without_counters_it_is_what_was_seen(ten_seconds):
    assert notes_of(Counting(None, None, seen=["thermal"]))["throttling"] == ["thermal"]


def test_without_a_gpu_nothing_is_known():
    notes = notes_of(None)
    assert (notes["throttling"], notes["sm_clock_mhz"]) == (None, None)
