"""Trainings that stand for those of another scheme: the same steps, to the last bit."""

import pytest
import torch

from bench.analysis.trained import TWINS, Trained, with_twins
from osgan import data
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer


def weights_after(scheme, loss, dataset):
    recipe = Recipe(
        dataset="digits",
        architecture="dcgan32+resolution=16+width=4+norm=group",
        loss=loss,
        scheme=scheme,
        batch_size=8,
    )
    trainer = Trainer(recipe, dataset=dataset)
    trainer.train(4)
    return trainer.loop.state()


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan", "hinge+r1=0.1"])
@pytest.mark.parametrize(("scheme", "twin"), TWINS[::2])
def test_twins_take_the_same_steps_bit_for_bit(scheme, twin, loss):
    dataset = data.load("digits", resolution=16, device="cpu")
    states = [weights_after(name, loss, dataset) for name in (scheme, twin)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    other = weights_after("one_stage", loss, dataset)
    assert not all(torch.equal(a, b) for a, b in zip(states[0], other, strict=True))


def test_a_scheme_that_was_timed_takes_its_twins_trainings():
    runs = {name: [Trained(0, [1], [1.0], [9.0], [9.0], None)] for name in ("one_stage", "two_stage")}
    timed = ("two_stage", "two_stage_frozen", "two_stage_reused", "one_stage")
    found = with_twins(runs, timed)
    assert list(found) == ["two_stage", "two_stage_frozen", "one_stage"]
    assert found["two_stage_frozen"] is runs["two_stage"]
    assert with_twins(runs, ("one_stage",)) == runs
