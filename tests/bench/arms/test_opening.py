from pathlib import Path

import pytest
import torch

from bench.arms.opening import open_arms
from bench.suite.jobs import Job
from bench.suite.model import Suite

TINY = {
    "name": "t",
    "schemes": ["two_stage", "control", "one_stage"],
    "matrix": {"dataset": "digits", "architecture": "dcgan32+width=4", "loss": "hinge", "batch_size": 4},
    "timing": {"budget_s": 0.2, "min_rounds": 5, "round_ms": 1, "warmup_s": 0.1, "replicates": 1, "preheat_s": 0},
}


def _arms(**changes):
    suite = Suite.model_validate(TINY | changes)
    return open_arms(Job(suite, suite.cases()[0], "cpu", None, Path()), torch.device("cpu"))


def _weights(arm):
    networks = (arm.networks.generator, arm.networks.discriminator)
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])


def test_the_control_is_one_stage_a_second_time_with_networks_of_its_own():
    build = _arms()
    mine, control, other = (build(scheme) for scheme in ("one_stage", "control", "two_stage"))
    assert type(control.scheme) is type(mine.scheme) is not type(other.scheme)
    assert control.networks.generator is not mine.networks.generator
    for arm in (mine, control):
        with arm.turn():
            arm.run(3)
    assert torch.equal(_weights(mine), _weights(control))


@pytest.mark.parametrize("scheme", ["one_stage", "control"])
def test_the_control_takes_the_overrides_of_one_stage(scheme):
    arm = _arms(overrides=[{"scheme": "one_stage", "set": {"discriminator_lr": 1e-5}}])(scheme)
    assert arm.loop.optimizers[1].param_groups[0]["lr"] == pytest.approx(1e-5)
