"""BatchNorm statistics of an averaged G, measured anew."""

import pytest
import torch
from torch import nn

from osgan import data
from osgan.training.recipe import Recipe
from osgan.training.standing import standing_statistics
from osgan.training.trainer import Trainer


def test_the_statistics_are_the_mean_over_the_calls_and_are_given_back():
    layer = nn.BatchNorm1d(3)
    network = nn.Sequential(layer, nn.Dropout(0.5))
    network(torch.randn(8, 3))
    before = [buffer.clone() for buffer in layer.buffers()]
    batches = [torch.randn(64, 3) * 2 + 5 for _ in range(4)]
    with standing_statistics(network, lambda: [network(batch) for batch in batches]):
        assert not network.training
        assert not layer.training
        expected = torch.stack([batch.mean(0) for batch in batches]).mean(0)
        torch.testing.assert_close(layer.running_mean, expected)
    assert network.training
    assert layer.training
    assert layer.momentum == 0.1
    assert all(torch.equal(a, b) for a, b in zip(before, layer.buffers(), strict=True))


def test_a_fault_on_the_way_gives_everything_back():
    layer = nn.BatchNorm1d(3).eval()
    with pytest.raises(ZeroDivisionError), standing_statistics(layer, lambda: 1 / 0):
        pass
    assert (layer.momentum, layer.training) == (0.1, False)
    assert torch.equal(layer.running_mean, torch.zeros(3))


def test_a_network_without_such_layers_is_not_called():
    with standing_statistics(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)), pytest.fail):
        pass


def test_a_trainer_goes_on_as_if_nothing_had_been():
    recipe = Recipe(
        dataset="digits", architecture="dcgan32+resolution=16+width=4+norm=group", batch_size=8, ema_half_life=16
    )
    dataset = data.load("digits", resolution=16, device="cpu")
    trainer = Trainer(recipe, dataset=dataset)
    trainer.train(3)
    plain, random_state = trainer.sample(4), torch.get_rng_state()
    before = [tensor.clone() for tensor in trainer.loop.state()]
    with trainer.standing(2):
        standing = trainer.sample(4)
    with trainer.standing(2):
        assert torch.equal(trainer.sample(4), standing)
    assert not torch.equal(plain, standing)
    assert torch.equal(plain, trainer.sample(4))
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.loop.state(), strict=True))
