from functools import partial

import pytest
import torch
from torch import nn

import osgan
from osgan import nets
from osgan.nets.mlp import mlp


@pytest.mark.parametrize("loss", ["nonsaturating", "wgan"])
def test_vectors(loss):
    built = nets.build("mlp+shape=(2,)+width=8+bounded=False", channels=1)
    assert built.generator(built.latent(5, "cpu")).shape == (5, 2)
    assert osgan.verify(built.generator, built.discriminator, loss, torch.randn(6, 2), built.latent).exact


def test_samples_of_any_shape():
    generator, discriminator = mlp(shape=(2, 3, 4, 5), width=8, latent_dim=6)
    samples = generator(torch.randn(7, 6))
    assert samples.shape == (7, 2, 3, 4, 5)
    assert discriminator(samples).shape == (7,)


def test_an_unbounded_generator_ends_in_a_linear_layer():
    z = 1000 * torch.randn(4, 6)
    for bounded in (True, False):
        generator, _ = mlp(shape=(2,), width=8, latent_dim=6, bounded=bounded)
        assert (generator(z).abs().max() <= 1) == bounded


def test_depth_is_the_number_of_hidden_layers():
    for network in mlp(shape=(2,), width=8, latent_dim=6, depth=4):
        shapes = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]
        assert shapes[:-1] == [8] * 4


def test_a_ring_is_learnt():
    """The smallest whole training there is: eight points on a circle, one-stage."""
    torch.manual_seed(0)
    generator, discriminator = mlp(shape=(2,), width=32, latent_dim=4, depth=2, bounded=False)
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9))
    step = osgan.OneStage(
        generator,
        discriminator,
        adam(generator.parameters()),
        adam(discriminator.parameters()),
        loss="nonsaturating",
        latent=osgan.Gaussian(4),
        regularizers=[osgan.regularizers.R1(0.1)],
    )

    def ring(n):
        angles = torch.arange(n) * torch.pi / 4
        return torch.stack([angles.cos(), angles.sin()], 1) + 0.05 * torch.randn(n, 2)

    for _ in range(400):
        step(ring(64))
    with torch.no_grad():
        radius = generator(torch.randn(256, 4)).norm(dim=1)
    assert radius.median().item() == pytest.approx(1, abs=0.25)
    assert (radius.sub(1).abs() < 0.4).float().mean() > 0.5
