"""Lazy regularization: every k-th step, k times as strong, and counted as the mean over a period."""

import copy

import pytest
import torch
from reference import (
    SCHEMES,
    assign,
    gradients_of,
    latent_of,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
    two_gradients,
)

import osgan
from osgan.cost import count_work
from osgan.regularizers import R1, R2, GradientPenalty, WeightClipping, parse_loss


def penalised_reference(generator, discriminator, loss, z, real, weights):
    """Return both gradients at the same weights, D's with gamma / 2 |grad D|^2 at the real and at the fake images."""
    of_generator, of_discriminator = two_gradients(generator, discriminator, loss, z, real)
    places = real, copy.deepcopy(generator)(z).detach()
    for gamma, images in zip(weights, places, strict=True):
        if gamma:
            images = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
            penalty = gamma / 2 * slope.square().sum((1, 2, 3)).mean()
            more = torch.autograd.grad(penalty, list(discriminator.parameters()), allow_unused=True)
            of_discriminator = [a if b is None else a + b for a, b in zip(of_discriminator, more, strict=True)]
    return of_generator, of_discriminator


@pytest.mark.parametrize("loss", ["nonsaturating", "wgan", "rpgan"])
@pytest.mark.parametrize("name", ["one_stage", "simultaneous"])
def test_seven_steps_are_those_of_the_reference(name, loss):
    lazy = (R1(0.3, every=3), R2(0.7, every=2))
    networks = make_networks()
    mine = make_scheme(name, *copy.deepcopy(networks), loss, lr=0.05, regularizers=lazy)
    generator, discriminator = copy.deepcopy(networks)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.05) for n in (generator, discriminator)]
    for step in range(7):
        real = make_real()
        torch.manual_seed(step)
        mine(real)
        torch.manual_seed(step)
        z = mine.latent(real.shape[0], real.device)
        weights = (3 * 0.3 if step % 3 == 0 else 0, 2 * 0.7 if step % 2 == 0 else 0)
        found = penalised_reference(generator, discriminator, loss, z, real, weights)
        for network, gradients in zip((generator, discriminator), found, strict=True):
            assign(network, gradients)
        assert relative_error(gradients_of(mine.discriminator), gradients_of(discriminator)) <= 1e-9, step
        for optimizer in optimizers:
            optimizer.step()
    ends = [[p for n in pair for p in n.parameters()] for pair in ((mine.generator, mine.discriminator), networks)]
    assert relative_error([*generator.parameters(), *discriminator.parameters()], ends[1]) > 1e-3
    assert relative_error(ends[0], [*generator.parameters(), *discriminator.parameters()]) <= 1e-9


@pytest.mark.parametrize("name", SCHEMES)
def test_a_penalty_is_due_at_every_kth_step(name):
    seen = []

    class Watched(R1):
        def accumulate(self, *given):
            seen.append(scheme.num_steps)
            super().accumulate(*given)

    scheme = make_scheme(name, *make_networks(), "hinge", regularizers=(Watched(1.0, every=4), WeightClipping(1)))
    for _ in range(10):
        scheme(make_real())
    assert seen == [0, 4, 8]
    assert scheme.period == 4


@pytest.mark.parametrize(
    ("text", "weights", "intervals"),
    [
        ("nonsaturating+r1=10/16", [10], [16]),
        ("hinge+r1=0.5/4+r2=1e-2+gradient_penalty=10/2", [0.5, 0.01, 10], [4, 1, 2]),
        ("hinge+r1=1/1", [1], [1]),
    ],
)
def test_how_it_is_written(text, weights, intervals):
    _, found = parse_loss(text)
    assert [each.weight for each in found] == weights
    assert [each.every for each in found] == intervals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hinge+r1=10/0", "R1 needs an interval of 1 step or more, got 0"),
        ("hinge+r1=0/4", "R1 needs a weight above 0"),
        ("hinge+r1=10/1.5", "'r1' takes a number, or WEIGHT/INTERVAL as 10/16, got '10/1.5'"),
        ("hinge+r1=much/4", "'r1' takes a number, or WEIGHT/INTERVAL"),
        ("wgan+weight_clipping=0.01/5", "'weight_clipping' takes no interval"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(osgan.InputError, match=message):
        parse_loss(text)


@pytest.mark.parametrize("every", [0, -2, 1.5, True])
def test_an_interval_that_is_none_is_refused(every):
    for penalty in (R1, GradientPenalty):
        with pytest.raises(osgan.InputError, match="an interval of 1 step or more"):
            penalty(1.0, every=every)


def test_flops_are_the_mean_over_a_period():
    networks, real = make_networks(), make_real()

    def flops(*regularizers):
        found = osgan.predict_speedup(*networks, "nonsaturating", real, latent_of(), regularizers=regularizers)
        return found.flops

    plain, r1, r2, both = flops(), flops(R1(1)), flops(R2(1)), flops(R1(1), R2(1))
    lazy = flops(R1(1, every=4), R2(1, every=6))
    for name in SCHEMES:
        # of twelve steps R1 has 4 and 8 for itself, R2 has 6, and 0 is both's
        expected = (8 * plain[name] + 2 * r1[name] + r2[name] + both[name]) / 12
        assert lazy[name] == pytest.approx(expected, abs=1)


def test_counting_takes_a_step_for_each_kind_of_step():
    scheme = make_scheme("one_stage", *make_networks(), "hinge", regularizers=(R1(1, every=16),))
    scheme.prepare(make_real())
    count_work(scheme, make_real())
    assert scheme.num_steps == 2
