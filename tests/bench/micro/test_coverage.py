"""Repeats of A against A, from made-up times whose scatter is known."""

import numpy as np
import pytest

from bench.micro.coverage import coverage_of


def replicates(number, scatter, *, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for effect in np.exp(shift + rng.normal(0, scatter, number)):
        mine = np.exp(rng.normal(0, 0.01, 20))
        made.append((mine * effect * np.exp(rng.normal(0, 0.01, 20)), mine))
    return made


def test_a_against_a_is_held_and_a_planted_difference_found():
    found = coverage_of(replicates(602, 0.003), 3)
    assert found.repeats == 200
    assert 0.91 * 200 <= found.held <= 0.99 * 200
    assert found.found >= 0.9 * 200
    assert found.scatter == pytest.approx(np.hypot(0.003, 0.0028), rel=0.1)  # the rounds of each leave the rest
    assert 0.01 < found.detectable < 0.03


def test_a_difference_that_is_there_is_not_held():
    assert coverage_of(replicates(300, 0.003, shift=0.03), 3).held < 10


def test_processes_that_scatter_hide_the_planted_difference_but_not_the_truth():
    found = coverage_of(replicates(600, 0.05), 3)
    assert found.found < 0.3 * 200
    assert 0.91 * 200 <= found.held <= 0.99 * 200
