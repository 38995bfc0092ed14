import pytest
import torch
from reference import (
    ASYMMETRIC,
    LOSSES,
    MIXING,
    SYMMETRIC,
    as_custom,
    changed,
    latent_of,
    make_labels,
    make_networks,
    make_real,
    snapshot,
    with_gradients,
)
from torch.nn.utils.parametrizations import spectral_norm

import osgan


def found(middle, loss, dtype=torch.float64, *, patch=False, **options):
    generator, discriminator = make_networks(middle, dtype=dtype, patch=patch)
    return osgan.verify(generator, discriminator, loss, make_real(dtype), latent_of(dtype), **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_exact_with_group_norm(loss, dtype):
    result = found("group", loss, dtype)
    assert result.exact
    assert result.generator_error <= (1e-10 if dtype == torch.float64 else 1e-5)
    assert result.discriminator_error <= (1e-10 if dtype == torch.float64 else 1e-5)
    assert "agree with the two-gradient reference" in result.reason
    assert result.structure.sample_wise


@pytest.mark.parametrize("loss", SYMMETRIC)
@pytest.mark.parametrize("middle", MIXING)
def test_exact_with_a_symmetric_loss_whatever_the_discriminator(loss, middle):
    result = found(middle, loss)
    assert result.exact
    assert "the loss is symmetric" in result.reason
    assert not result.structure.sample_wise


@pytest.mark.parametrize("loss", ASYMMETRIC)
@pytest.mark.parametrize(("middle", "patch", "reason"), [("batch", False, "mixes"), ("group", True, "4 logits")])
def test_not_exact_with_the_reason(loss, middle, patch, reason):
    result = found(middle, loss, patch=patch)
    assert not result.exact
    assert reason in result.reason
    assert "Simultaneous" in result.reason


def test_the_errors_are_measured_where_the_structure_objects():
    result = found("batch", "nonsaturating")
    assert result.generator_error > 1e-3


@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_a_false_claim_of_symmetry_is_caught(loss):
    networks = make_networks()
    real = make_real()
    with torch.no_grad():
        networks[1][5].bias.fill_(-5.0)  # where hinge is not symmetric either
    true, false = (
        osgan.verify(*networks, as_custom(loss, symmetric=claim), real, latent_of()) for claim in (False, True)
    )
    assert true.generator_error <= 1e-10
    assert not false.exact
    assert "says that it is symmetric" in false.reason


def test_derivatives_that_are_not_the_losses_own_are_caught():
    loss = as_custom("nonsaturating")
    loss.derivatives = lambda real, fake: (-torch.ones_like(real), fake.exp(), -torch.ones_like(fake))
    result = found("group", loss)
    assert not result.exact
    assert "closed form" in result.reason
    assert result.generator_error > 1e-3


def test_the_tolerance_is_the_callers():
    assert found("group", "nonsaturating", torch.float32).exact
    assert not found("group", "nonsaturating", torch.float32, tolerance=1e-12).exact


def test_labels_are_passed_on():
    networks = make_networks(conditional=True)
    assert osgan.verify(*networks, "nonsaturating", make_real(), latent_of(), make_labels()).exact


def test_spectral_norm_is_exact():
    generator, discriminator = make_networks("none")
    for index in (0, 2, 5):
        spectral_norm(discriminator[index])
    assert osgan.verify(generator, discriminator, "hinge", make_real(), latent_of()).exact


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax"])
@pytest.mark.parametrize("middle", ["group", "batch"])
def test_the_networks_and_the_random_state_are_left_alone(middle, loss):
    networks = make_networks(middle)
    with_gradients(*networks)
    real = make_real()
    before = snapshot(*networks)
    osgan.verify(*networks, loss, real, latent_of())
    assert changed(before, snapshot(*networks)) == []


def test_a_tuple_is_refused():
    class Pair(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).mean(1), x

    with pytest.raises(osgan.InputError, match="returned tuple"):
        osgan.verify(make_networks()[0], Pair(8, 1, dtype=torch.float64), "minimax", make_real(), latent_of())


def test_exact_for_a_discriminator_that_has_won():
    generator, discriminator = make_networks()
    with torch.no_grad():
        discriminator[5].bias -= 5
    result = osgan.verify(generator, discriminator, "hinge", make_real(), latent_of())
    assert result.exact, result
