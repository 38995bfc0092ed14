"""G ahead of its optimizer: by the formula, on the bilinear game, and as a scheme."""

import copy

import pytest
import torch
from reference import make_discriminator, make_networks, make_real, make_scheme
from torch import nn

import osgan
from osgan.ahead import DECAY
from osgan.errors import InputError


def test_the_weights_stand_ahead_by_the_mean_update():
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    v, u = weight.detach().clone(), torch.zeros(3, 2, dtype=torch.float64)
    ahead = osgan.Ahead([weight], decay=0.7)
    for update in torch.randn(6, 3, 2, dtype=torch.float64):
        with ahead.moving(), torch.no_grad():
            weight += update
        v, u = v + update, 0.7 * u + 0.3 * update
        torch.testing.assert_close(weight.detach(), v + u, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ahead.mean_update[0], u, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(weight, v)


def test_without_averaging_it_is_optimistic_descent():
    start = torch.randn(3, 2, dtype=torch.float64)
    mine, its = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ahead, optimizer = osgan.Ahead([mine], decay=0), torch.optim.Adam([mine], 1e-2)
    optimistic = osgan.optim.OptimisticAdam([its], 1e-2)
    for gradient in torch.randn(5, 3, 2, dtype=torch.float64):
        mine.grad, its.grad = gradient.clone(), gradient.clone()
        with ahead.moving():
            optimizer.step()
        optimistic.step()
    torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_what_asks_for_no_gradient_stays():
    weights = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    ahead = osgan.Ahead(weights)
    assert len(ahead.mean_update) == 1


@pytest.mark.parametrize("decay", [1.0, -0.1, "0.5", float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(InputError, match="decay must be from 0 up to 1"):
        osgan.Ahead([nn.Parameter(torch.ones(2))], decay=decay)


NAMES = ("one_stage", "one_stage_ahead")


def distance_after(decay, *, steps=300, lr=0.1):
    """Return how far from the solution simultaneous descent on x * y ends, x ahead; None for nobody."""
    x, y = (nn.Parameter(torch.ones((), dtype=torch.float64)) for _ in range(2))
    optimizer = torch.optim.SGD([x, y], lr)
    ahead = None if decay is None else osgan.Ahead([x], decay)
    for _ in range(steps):
        x.grad, y.grad = y.detach().clone(), -x.detach().clone()
        if ahead is None:
            optimizer.step()
        else:
            with ahead.moving():
                optimizer.step()
    return float((x**2 + y**2).sqrt().detach())


def test_one_player_ahead_keeps_the_bilinear_game_from_spiralling_outwards():
    assert distance_after(None) > 4 * 2**0.5
    assert distance_after(0.0) < 1.1 * 2**0.5  # as alternating descent does
    assert distance_after(DECAY) < 1.2 * 2**0.5


def gradients(scheme):
    """Return what a step leaves in .grad."""
    torch.manual_seed(1)
    scheme(make_real(torch.float64))
    networks = scheme.generator, scheme.discriminator
    return [weight.grad.clone() for network in networks for weight in network.parameters()]


def test_its_gradients_are_those_of_one_stage_at_the_same_weights():
    networks = make_networks(dtype=torch.float64)
    found = [gradients(make_scheme(n, *copy.deepcopy(networks), "nonsaturating")) for n in NAMES]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_g_alone_moves_ahead():
    networks = make_networks(dtype=torch.float64)
    schemes = [make_scheme(n, *copy.deepcopy(networks), "nonsaturating", lr=0.1) for n in NAMES]
    for scheme in schemes:
        gradients(scheme)
    plain, ahead = schemes
    for mine, its in zip(plain.discriminator.parameters(), ahead.discriminator.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-14)
    for before, mine, its in zip(
        networks[0].parameters(), plain.generator.parameters(), ahead.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(its - before, (1 + (1 - DECAY)) * (mine - before), rtol=1e-9, atol=1e-14)
    assert len(ahead.tensors()) == len(plain.tensors()) + len(ahead.ahead.weights)


def test_it_refuses_what_one_stage_refuses():
    generator, _ = make_networks(dtype=torch.float64)
    scheme = make_scheme("one_stage_ahead", generator, make_discriminator("batch").double(), "nonsaturating")
    with pytest.raises(osgan.errors.NotExactError, match="one-stage training is not exact here"):
        scheme(make_real(torch.float64))
