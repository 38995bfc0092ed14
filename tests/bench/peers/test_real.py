"""On the checkouts themselves: OSGAN_PEERS names a folder that holds OSGAN, mimicry and examples."""

import os
import warnings
from pathlib import Path

import pytest

from bench.peers.arms import TheirArm, device_batches
from bench.peers.check import compare
from bench.probes.timing import WallTimer
from osgan import data

PLACES = {"osgan": "OSGAN", "mimicry": "mimicry", "pytorch-dcgan": "examples"}
WIDTH = 32


@pytest.mark.skipif("OSGAN_PEERS" not in os.environ, reason="set OSGAN_PEERS to a folder of the peers' checkouts")
@pytest.mark.parametrize("key", PLACES)
def test_a_real_checkout_runs_and_takes_our_gradients(open_checkout, key):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations that their code meets
        cases, changes = open_checkout(key, Path(os.environ["OSGAN_PEERS"]).resolve() / PLACES[key], width=WIDTH)
        assert changes.patched
        for case in cases:
            _, size, _ = case.image_shape
            dataset = data.load("digits", resolution=size, channels=3, device="cpu")
            for row in compare(case, next(dataset.batches(4, seed=0))[0]):
                if row["logits_lowered_by"]:
                    assert (row["theirs_finite"], row["ours_finite"]) == (False, True)  # they divide by zero
                elif (case.name, row["theirs"]) != ("wgan", "theirs one_stage"):  # which is another function
                    assert row["generator_error"] < 1e-5
                    assert row["discriminator_error"] < 1e-5
            for theirs in case.theirs.values():
                arm = TheirArm(theirs, 4, device_batches(dataset, 4))
                with arm.turn():
                    assert WallTimer().time(lambda arm=arm: arm.run(2)).wall_ms > 0
                assert arm.finite
