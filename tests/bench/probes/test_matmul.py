import itertools

import pytest
import torch

from bench.probes import matmul


def test_flops_are_those_of_the_product_over_the_fastest_of_a_few_times(monkeypatch):
    seconds = iter([0.5, 0.2, 0.4, 0.3, 0.6])
    readings = itertools.chain.from_iterable((10.0, 10.0 + s) for s in seconds)
    monkeypatch.setattr(matmul.time, "perf_counter", lambda: next(readings))
    found = matmul.matmul_flops_per_s(torch.device("cpu"), "fp32")
    assert found == pytest.approx(2 * 1024**3 / 0.2)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_every_precision_multiplies_in_its_own_type(precision, monkeypatch):
    types = []
    monkeypatch.setattr(matmul.torch, "mm", lambda a, b: types.append((a.dtype, b.dtype, a.shape, b.shape)))
    found = matmul.matmul_flops_per_s(torch.device("cpu"), precision)
    expected = torch.bfloat16 if precision == "bf16" else torch.float32
    assert set(types) == {(expected, expected, (1024, 1024), (1024, 1024))}
    assert len(types) == 1 + matmul.REPEATS  # the first one only warms up
    assert found > 0


def test_a_real_product_is_within_what_any_processor_does():
    assert 1e8 < matmul.matmul_flops_per_s(torch.device("cpu"), "fp32") < 1e15
