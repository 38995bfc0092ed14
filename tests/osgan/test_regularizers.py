import copy

import pytest
import torch
from reference import (
    BATCH,
    SCHEMES,
    assert_exact,
    gradients_of,
    make_labels,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
    snapshot,
)
from torch import nn

import osgan
from osgan.regularizers import R1, R2, GradientPenalty, Regularizer, WeightClipping, from_options, parse_loss

PENALTIES = (R1(0.7), R2(1.3), GradientPenalty(2.0))
IDS = ("r1", "r2", "gp")


def random_points():
    real, fake = torch.randn(2, BATCH, 2, 4, 4, dtype=torch.float64)
    return real, fake


def penalty_gradient(regularizer, discriminator, real, fake, labels=()):
    """Return the penalty's own gradient, alone."""
    discriminator = copy.deepcopy(discriminator)
    for parameter in discriminator.parameters():
        parameter.grad = torch.zeros_like(parameter)
    regularizer.accumulate(discriminator, real, fake, labels)
    assert {p.grad.dtype for p in discriminator.parameters()} == {real.dtype}
    return gradients_of(discriminator)


class Quadratic(nn.Module):
    """x -> sum(w x^2) / 2, whose gradient at x is w x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 4, 4, dtype=torch.float64))

    def forward(self, x):
        return (self.w * x.square()).sum((1, 2, 3)) / 2


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 1)).double()


@pytest.mark.parametrize("penalty", PENALTIES[:2], ids=IDS[:2])
def test_zero_centred_penalties_on_a_linear_discriminator(penalty):
    discriminator = linear()  # gamma/2 |w|^2 everywhere
    weight, bias = penalty_gradient(penalty, discriminator, *random_points())
    torch.testing.assert_close(weight, penalty.weight * discriminator[1].weight.detach(), rtol=1e-10, atol=0)
    assert not bias.any()


@pytest.mark.parametrize(("penalty", "where"), [(R1(0.7), 0), (R2(1.3), 1)], ids=IDS[:2])
def test_zero_centred_penalties_on_a_quadratic_discriminator(penalty, where):
    discriminator, points = Quadratic(), random_points()
    # d/dw gamma/2 mean |w x|^2 = gamma w mean x^2
    expected = penalty.weight * discriminator.w.detach() * points[where].square().mean(0)
    (found,) = penalty_gradient(penalty, discriminator, *points)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_gradient_penalty_on_a_linear_discriminator():
    discriminator = linear()  # weight (|w| - 1)^2 everywhere
    w = discriminator[1].weight.detach()
    weight, _ = penalty_gradient(GradientPenalty(2.0), discriminator, *random_points())
    expected = 2 * 2.0 * (w.norm() - 1) * w / w.norm()
    torch.testing.assert_close(weight, expected, rtol=1e-10, atol=0)


def test_gradient_penalty_is_taken_on_the_lines_between_real_and_fake():
    points = GradientPenalty().at(torch.zeros(64, 2, 4, 4), torch.ones(64, 2, 4, 4)).flatten(1)
    shares = points[:, 0]
    assert (points == shares[:, None]).all(), "one share an image"
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert 0.3 < shares.mean() < 0.7  # uniform: 5 sigma is 0.18
    assert shares.unique().numel() == 64


def test_gradient_penalty_survives_a_flat_discriminator():
    discriminator = linear()
    nn.init.zeros_(discriminator[1].weight)
    assert all(g.isfinite().all() for g in penalty_gradient(GradientPenalty(), discriminator, *random_points()))


@pytest.mark.parametrize("penalty", PENALTIES, ids=IDS)
def test_penalties_agree_with_finite_differences(penalty):
    _, discriminator = make_networks()
    discriminator[1] = discriminator[4] = nn.Tanh()  # a leaky ReLU has kinks
    real, fake = make_real(), make_real()
    torch.manual_seed(5)
    gradient = penalty_gradient(penalty, discriminator, real, fake)

    def value():
        torch.manual_seed(5)
        points = penalty.at(real, fake).requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(points).sum(), points)
        norm = slope.flatten(1).norm(dim=1)
        each = (norm - 1).square() if isinstance(penalty, GradientPenalty) else norm.square() / 2
        return penalty.weight * each.mean().item()

    directions = [torch.randn_like(p) for p in discriminator.parameters()]
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, direction in zip(discriminator.parameters(), directions, strict=True):
                parameter += step * direction
        values.append(value())
    slope = sum((g * d).sum().item() for g, d in zip(gradient, directions, strict=True))
    assert slope != 0
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


def gradients_at_step(scheme, real, labels=None):
    """Return D's gradients as its optimizer sees them and G's as it sees them."""
    seen = {}
    for player in ("generator", "discriminator"):
        network, optimizer = getattr(scheme, player), getattr(scheme, f"{player}_optimizer")
        optimizer.register_step_pre_hook(
            lambda *_, network=network, player=player: seen.update({player: [g.clone() for g in gradients_of(network)]})
        )
    torch.manual_seed(1)
    scheme(real, labels)
    return seen["discriminator"], seen["generator"]


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=IDS)
@pytest.mark.parametrize("name", SCHEMES)
def test_penalties_add_to_the_discriminators_gradient_and_leave_the_generators_alone(name, penalty, conditional):
    networks, images = make_networks(conditional=conditional), make_real()
    labels = (make_labels(),) if conditional else ()
    plain, plain_g = gradients_at_step(make_scheme(name, *copy.deepcopy(networks), "nonsaturating"), images, *labels)

    class Recorded(type(penalty)):
        def accumulate(self, discriminator, real, fake, labels):
            assert torch.equal(real, images)
            assert fake.shape == real.shape
            assert not torch.equal(fake, images)
            assert not fake.requires_grad
            before = snapshot(discriminator)
            self.alone = penalty_gradient(penalty, discriminator, real, fake, labels)
            torch.set_rng_state(before["rng"])
            super().accumulate(discriminator, real, fake, labels)

    recorded = Recorded(penalty.weight)
    scheme = make_scheme(name, *copy.deepcopy(networks), "nonsaturating", regularizers=(recorded,))
    penalised, penalised_g = gradients_at_step(scheme, images, *labels)
    expected = [a + b for a, b in zip(plain, recorded.alone, strict=True)]
    assert relative_error(expected, plain) > 1e-4
    assert relative_error(penalised, expected) <= 1e-10
    if "two_stage" in name and isinstance(penalty, GradientPenalty) and "reused" not in name:
        return  # the penalty's random points come between the two draws of latents
    assert relative_error(penalised_g, plain_g) <= 1e-12


def test_penalties_compose_with_each_other_and_one_stage_stays_exact():
    networks, real = make_networks(), make_real()
    found = []
    for name in ("one_stage", "simultaneous"):
        scheme = make_scheme(name, *copy.deepcopy(networks), "hinge", regularizers=PENALTIES)
        found.append(gradients_at_step(scheme, real))
    for mine, reference in zip(*found, strict=True):
        assert relative_error(mine, reference) <= 1e-10
    with pytest.raises(AssertionError):  # the reference has no penalty
        assert_exact(make_scheme("one_stage", *networks, "hinge", regularizers=PENALTIES), real)


@pytest.mark.parametrize("name", SCHEMES)
def test_weight_clipping_clips_after_every_step(name):
    scheme = make_scheme(name, *make_networks(), "wgan", lr=0.5, regularizers=(WeightClipping(0.02),))
    before = [p.clone() for p in scheme.discriminator.parameters()]
    generator = [p.abs().max() for p in scheme.generator.parameters()]
    assert max(p.abs().max() for p in before) > 0.02
    scheme(make_real())
    for parameter in scheme.discriminator.parameters():
        assert parameter.abs().max() <= 0.02
    inside = [p for p in scheme.discriminator.parameters() if (p.abs() < 0.02).any()]
    assert inside, "clipping is not setting"
    assert max(generator) > 0.02
    assert max(p.abs().max() for p in scheme.generator.parameters()) > 0.02


def test_weight_clipping_leaves_frozen_weights_and_statistics_alone():
    _, discriminator = make_networks("batch")
    scale = discriminator[3].weight.requires_grad_(False)
    WeightClipping(0.01).after_step(discriminator)
    assert (scale == 1).all()
    assert (discriminator[3].running_var == 1).all()
    assert discriminator[0].weight.abs().max() == 0.01


def test_the_base_class_does_nothing():
    _, discriminator = make_networks()
    before = [p.clone() for p in discriminator.parameters()]
    Regularizer().accumulate(discriminator, make_real(), make_real(), ())
    Regularizer().after_step(discriminator)
    assert all(torch.equal(a, b) for a, b in zip(before, discriminator.parameters(), strict=True))
    assert all(p.grad is None for p in discriminator.parameters())


def test_parse_loss():
    name, regularizers = parse_loss("rpgan+r2=0.05+r1=1+gradient_penalty=10+weight_clipping=0.01")
    assert name == "rpgan"
    assert [type(each) for each in regularizers] == [R2, R1, GradientPenalty, WeightClipping]
    assert [each.weight for each in regularizers[:3]] == [0.05, 1, 10]
    assert regularizers[3].limit == 0.01
    assert parse_loss("hinge") == ("hinge", ())
    assert from_options([]) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hinge+r3=1",
            r"unknown regularizer 'r3'\. There is: ar1, ar2, consistency, gradient_penalty, r1, r2, share, sigma",
        ),
        ("hinge+weight_cliping=1", "Did you mean 'weight_clipping'"),
        ("hinge+r1", "at 'r1'"),
        ("hinge+r1=much", "'r1' takes a number, or WEIGHT.*got 'much'"),
        ("hinge+r1=True", "'r1' takes a number, or WEIGHT.*got True"),
        ("hinge+r1=0", "R1 needs a weight above 0, got 0"),
        ("hinge+r2=-1", "R2 needs a weight above 0, got -1"),
        ("hinge+gradient_penalty=-0.5", "GradientPenalty needs a weight above 0, got -0.5"),
        ("wgan+weight_clipping=0", "WeightClipping needs a limit above 0, got 0"),
        ("hinge+r1=1+r1=2", "twice"),
    ],
)
def test_what_is_not_a_loss_with_regularizers(text, message):
    with pytest.raises(osgan.InputError, match=message):
        parse_loss(text)
