"""On the checkouts themselves: OSGAN_PEERS names a folder that holds some of them, called as git clone calls them."""

import os
import warnings
from pathlib import Path

import pytest

from bench.peers.arms import LoopArm, TheirArm, device_batches
from bench.peers.check import compare, compare_loop
from bench.peers.peer import LoopCase
from bench.peers.worker import PEERS
from bench.probes.timing import WallTimer
from osgan import data

FOLDER = os.environ.get("OSGAN_PEERS")


@pytest.mark.skipif(FOLDER is None, reason="set OSGAN_PEERS to a folder of the peers' checkouts")
@pytest.mark.parametrize("key", PEERS)
def test_a_real_checkout_runs_and_takes_our_gradients(open_checkout, key):
    peer = PEERS[key]
    root = Path(FOLDER).resolve() / peer.url.rpartition("/")[2]
    if not root.is_dir():
        pytest.skip(f"no {root}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations that their code meets
        width, resolution = peer.cpu_width or peer.width // 4, peer.cpu_resolution or peer.resolutions[0]
        cases, changes = open_checkout(
            key, root, batch_size=min(4, peer.cpu_batch_size), width=width, resolution=resolution
        )
        assert changes.patched
        for case in cases:
            for arm in _of_loop(case) if isinstance(case, LoopCase) else _of_images(case):
                with arm.turn():
                    assert WallTimer().time(lambda arm=arm: arm.run(2)).wall_ms > 0
                assert arm.finite


def _of_loop(case):
    for row in compare_loop(case):
        most = {"float64": 1e-12, "float32": 1e-5}[row["precision"]]
        assert row["generator_error"] < most
        assert row["discriminator_error"] < most
    return [LoopArm(case, steps) for steps in (case.theirs, *(ours.steps for ours in case.ours.values()))]


def _of_images(case):
    dataset = data.load("digits", resolution=case.image_shape[1], channels=3, device="cpu")
    for row in compare(case, next(dataset.batches(case.batch_size, seed=0))[0]):
        if row["logits_lowered_by"]:
            assert (row["theirs_finite"], row["ours_finite"]) == (False, True)  # they divide by zero
        elif (case.name, row["theirs"]) != ("wgan", "theirs one_stage"):  # which is another function
            assert row["generator_error"] < 1e-5
            assert row["discriminator_error"] < 1e-5
    batches = device_batches(dataset, case.batch_size)
    return [TheirArm(theirs, case.batch_size, batches) for theirs in case.theirs.values()]
