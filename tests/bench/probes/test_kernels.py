import pytest
import torch

from bench.probes.kernels import SHOWN, Activity, profile_step, summarise


def test_time_in_which_anything_runs_counts_once():
    found = summarise([Activity("a", 0, 1000), Activity("b", 500, 2000), Activity("c", 600, 700)], steps=1)
    assert found["busy_ms"] == pytest.approx(2.0)
    # each kernel's own time is whole nonetheless
    assert {k["name"]: k["ms"] for k in found["top_kernels"]} == pytest.approx({"b": 1.5, "a": 1.0, "c": 0.1})


def test_gaps_are_not_busy_and_order_does_not_matter():
    activities = [Activity("late", 5000, 6000), Activity("early", 0, 1000), Activity("early", 2000, 2500)]
    assert summarise(activities, steps=1)["busy_ms"] == pytest.approx(2.5)
    assert summarise(reversed(activities), steps=1) == summarise(activities, steps=1)


def test_copies_and_fills_are_busy_but_are_no_kernels():
    activities = [
        Activity("Memcpy HtoD", 0, 1000),
        Activity("Memset (Device)", 1000, 2000),
        Activity("gemm", 2000, 4000),
    ]
    found = summarise(activities, steps=1)
    assert found["kernels"] == 1
    assert found["busy_ms"] == pytest.approx(4.0)
    assert [k["name"] for k in found["top_kernels"]] == ["gemm", "Memcpy HtoD", "Memset (Device)"]


def test_everything_is_a_step():
    activities = [Activity("gemm", 1000 * i, 1000 * i + 400) for i in range(20)]
    found = summarise(activities, steps=10)
    assert found["kernels"] == 2
    assert found["busy_ms"] == pytest.approx(0.8)
    assert found["top_kernels"] == [{"name": "gemm", "ms": pytest.approx(0.8), "calls": 2.0}]


def test_the_list_is_cut_to_those_that_take_the_most():
    activities = [Activity(f"k{i}", 10_000 * i, 10_000 * i + 100 * (i + 1)) for i in range(30)]
    names = [k["name"] for k in summarise(activities, steps=1)["top_kernels"]]
    assert names == [f"k{i}" for i in range(29, 29 - SHOWN, -1)]


def test_nothing_ran():
    assert summarise([], steps=10) == {"kernels": 0, "busy_ms": 0.0, "top_kernels": []}


def test_without_a_gpu_nothing_is_known_and_nothing_runs():
    found = profile_step(None, torch.device("cpu"))
    assert found == {"kernels": None, "busy_ms": None, "top_kernels": None}
