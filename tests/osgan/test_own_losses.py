"""Losses as users write them: scalars, weights, claims that are not true, and what the schemes find out."""

import pytest
import torch
from reference import (
    ALTERNATING,
    LOSSES,
    SCHEMES,
    SYMMETRIC,
    as_custom,
    gradients_of,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
    two_gradients,
)
from torch import nn

import osgan
from osgan.errors import InputError
from osgan.losses import LOSSES as BY_NAME
from osgan.losses import AdversarialLoss, LossStructure, measure_loss

bce = nn.BCEWithLogitsLoss()


def ones(s):
    return torch.ones_like(s)


SCALAR = {
    "minimax": (lambda r, f: bce(r, ones(r)) + bce(f, 0 * f), lambda r, f: -bce(f, 0 * f)),
    "nonsaturating": (lambda r, f: bce(r, ones(r)) + bce(f, 0 * f), lambda r, f: bce(f, ones(f))),
    "lsgan": (
        lambda r, f: (nn.MSELoss()(r, ones(r)) + nn.MSELoss()(f, 0 * f)) / 2,
        lambda r, f: nn.MSELoss()(f, ones(f)) / 2,
    ),
    "hinge": (lambda r, f: torch.relu(1 - r).mean() + torch.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "rpgan": (lambda r, f: bce(r - f, ones(r)), lambda r, f: bce(f - r, ones(f))),
    "ragan": (
        lambda r, f: bce(r - f.mean(), ones(r)) + bce(f - r.mean(), 0 * f),
        lambda r, f: bce(r - f.mean(), 0 * r) + bce(f - r.mean(), ones(f)),
    ),
}


def step_gradients(scheme, seed=1):
    torch.manual_seed(seed)
    stats = scheme(make_real())
    return [g.clone() for n in (scheme.generator, scheme.discriminator) for g in gradients_of(n)], stats


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["one_stage", "simultaneous"])
def test_a_loss_that_returns_its_mean_is_taken_as_it_stands(name, loss):
    """Divided by N once more, gradients would be six times too small."""
    networks = make_networks()
    scheme = make_scheme(name, *networks, AdversarialLoss(loss, *SCALAR[loss]))
    torch.manual_seed(1)
    real = make_real()
    expected = [g for part in two_gradients(*networks, loss, scheme.latent(6, "cpu"), real) for g in part]
    found, _ = step_gradients(scheme)
    assert relative_error(found, expected) <= 1e-10
    assert osgan.verify(*networks, scheme.loss, real, scheme.latent).exact


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan"])
@pytest.mark.parametrize("name", ALTERNATING)
def test_alternating_steps_take_the_same_gradients_from_both_forms(name, loss):
    networks = make_networks()
    forms = [AdversarialLoss(loss, *SCALAR[loss]), as_custom(loss), loss]
    found = [step_gradients(make_scheme(name, *networks, form)) for form in forms]
    for gradients, stats in found[1:]:
        assert relative_error(gradients, found[0][0]) <= 1e-10
        assert torch.allclose(torch.stack(stats), torch.stack(found[0][1]), rtol=1e-12)


def test_a_sum_is_a_sum():
    networks = make_networks()
    mean, total = (
        step_gradients(make_scheme("one_stage", *networks, AdversarialLoss("hinge", *parts)))[0]
        for parts in (SCALAR["hinge"], [lambda r, f, part=part: 6 * part(r, f) for part in SCALAR["hinge"]])
    )
    assert relative_error(total, [6 * g for g in mean]) <= 1e-12


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.7])
@pytest.mark.parametrize("middle", ["batch", "crowd", "group"])
@pytest.mark.parametrize("loss", SYMMETRIC)
def test_a_constant_ratio_needs_one_backward_pass_through_any_discriminator(loss, middle, weight):
    networks = make_networks(middle, patch=True)
    of_discriminator, of_generator = SCALAR[loss]
    weighted = AdversarialLoss("weighted", of_discriminator, lambda r, f: weight * of_generator(r, f))
    mine, theirs = (make_scheme(name, *networks, weighted) for name in ("one_stage", "simultaneous"))
    assert relative_error(step_gradients(mine)[0], step_gradients(theirs)[0]) <= 1e-10
    assert mine.loss_structure.constant_ratio == -weight


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", [as_custom, lambda name: AdversarialLoss(name, *SCALAR[name])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 6, 600])
def test_symmetry_and_pairing_are_found_out(loss, form, dtype, n):
    found = measure_loss(form(loss), torch.empty(n, dtype=dtype))
    known = BY_NAME[loss]
    if n == 1 and loss in ("rpgan", "ragan"):
        return  # of one pair the relativistic average is the pairing loss
    assert found == LossStructure(-1.0 if known.symmetric else None, known.paired)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "rpgan"])
def test_a_false_claim_of_symmetry_is_refused(name, loss):
    with pytest.raises(InputError, match="says that it is symmetric, but"):
        make_scheme(name, *make_networks(), as_custom(loss, symmetric=True))(make_real())


@pytest.mark.parametrize("name", ALTERNATING)
def test_pairing_that_is_not_claimed_is_taken_care_of(name):
    """G's turn then scores the real images again, by the D that has moved."""
    found = []
    for loss in (as_custom("rpgan", paired=False), "rpgan"):
        torch.manual_seed(0)
        networks = make_networks()
        found.append(step_gradients(make_scheme(name, *networks, loss, lr=0.1))[0])
    assert relative_error(*found) <= 1e-12


def test_derivatives_that_are_not_those_of_the_functions_are_refused():
    loss = as_custom("hinge")
    loss.derivatives = lambda real, fake: (-(real < 1).to(real.dtype), 2 * (fake > -1).to(fake.dtype), -ones(fake))
    with pytest.raises(InputError, match="the derivative `fake` that the loss 'hinge' gives in closed form"):
        make_scheme("simultaneous", *make_networks(), loss)(make_real())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((lambda r, f: torch.cat([r, f]), lambda r, f: -f), r"discriminator's part .* \(6,\), or .* got \(12,\)"),
        ((lambda r, f: f - r, lambda r, f: -f[:3]), r"generator's part .* got \(3,\)"),
        ((lambda r, f: f - r, lambda r, f: -3.0), "generator's part .* got float"),
        ((lambda r, f: f - r, lambda r, f: None), "generator's part .* got NoneType"),
        ((lambda r, f: f - r, lambda r, f: f @ torch.ones(9, 9)), "the loss 'own' fails on 6 logits: RuntimeError"),
    ],
)  # fmt: skip
def test_losses_that_are_none(parts, message):
    with pytest.raises(InputError, match=message):
        make_scheme("one_stage", *make_networks(), AdversarialLoss("own", *parts))(make_real())


def test_a_player_whose_loss_reads_no_logit_is_at_rest():
    networks = make_networks()
    loss = AdversarialLoss("resting", lambda r, f: torch.relu(1 + f), lambda r, f: torch.zeros(6, dtype=f.dtype))
    step_gradients(make_scheme("one_stage", *networks, loss))
    assert all(not g.any() for g in gradients_of(networks[0]))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_float16_is_refused_for_every_loss(name, loss):
    class Halves(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x).half()

    generator, discriminator = make_networks()
    with pytest.raises(InputError, match="float16 logits lose small gradients"):
        make_scheme(name, generator, Halves(discriminator), loss)(make_real())


@pytest.mark.parametrize("name", SCHEMES)
def test_real_images_keep_their_precision_where_the_fakes_have_less(name):
    """A generator in bfloat16 must not round the real images that share a batch with its fakes."""

    class Coarse(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, z):
            return self.network(z).to(torch.bfloat16)

    class Wide(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            seen.append(x.detach())
            return self.network(x.to(torch.float64))

    generator, discriminator = make_networks()
    seen = []
    real = make_real()
    scheme = make_scheme(name, Coarse(generator), Wide(discriminator), "hinge", dtype=torch.float64)
    scheme.prepare(real)
    seen.clear()
    scheme(real)
    assert any(torch.equal(x[:6], real) for x in seen)
