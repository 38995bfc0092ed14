import itertools

import pytest
import torch

from bench.arms.scheme import SchemeArm
from bench.probes import phases
from bench.suite.cases import Case
from bench.suite.plans import Adam
from osgan import SCHEMES, data, nets

CASE = Case(dataset="digits", architecture="dcgan32+resolution=16", loss="hinge+r1=1", batch_size=8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_phase_of_every_scheme_is_seen(scheme, monkeypatch):
    ticks = itertools.count()
    # every mark is one tick of the clock: what is counted is how often a phase is entered
    monkeypatch.setattr(phases, "clock_of", lambda device: (lambda: next(ticks), lambda start, end: end - start))
    networks = nets.Networks(*nets.dcgan(resolution=16, width=8, channels=1), latent=nets.Gaussian(100))
    dataset = data.load("digits", resolution=16, device="cpu")
    arm = SchemeArm(CASE, scheme, networks, dataset, Adam(), seed=0)
    with arm.turn():
        found = phases.phases_of(arm, torch.device("cpu"), steps=4)
    generator_calls = {"two_stage": 2, "two_stage_frozen": 2}.get(scheme, 1)
    assert found["data"] == 1
    assert found["generator_forward"] == generator_calls
    assert found["generator_backward"] == 1
    assert found["optimizers"] == 2
    # D scores real images, whose pass R1 is taken from, and fakes; in two stages fakes once more, in G's turn
    passes = 4 if scheme == "one_stage_staggered" else 2  # of halves
    assert found["discriminator_forward"] == (3 if scheme.startswith("two_stage") else passes)
    assert found["discriminator_backward"] == found["discriminator_forward"]
    assert not any(net._forward_hooks for net in (networks.generator, networks.discriminator))
