"""Full precision whatever training has asked for; and verify, which computes in it."""

import pytest
import torch
from reference import latent_of, make_networks, make_real

import osgan
from osgan.precision import full_precision


@pytest.fixture(autouse=True)
def flags():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def state():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark


@pytest.mark.parametrize("asked", [True, False])
def test_tf32_is_off_on_a_gpu_and_then_as_it_was(asked):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = asked
    with full_precision(torch.device("cuda")):
        assert state() == (False, False, False)
    assert state() == (asked, asked, asked)


def test_autocast_around_verify_changes_nothing():
    networks = make_networks(dtype=torch.float32)
    asked = *networks, "nonsaturating", make_real(torch.float32), latent_of(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = osgan.verify(*asked)
    assert found.exact
    assert found.precision == "float32, TF32 off"


def test_networks_of_half_precision_are_verified_in_float32():
    networks = make_networks(dtype=torch.bfloat16)
    found = osgan.verify(*networks, "hinge", make_real(torch.float32), latent_of(torch.float32))
    assert found.exact
    assert found.precision == "float32, TF32 off"
    assert next(networks[0].parameters()).dtype == torch.bfloat16


def test_where_float32_does_not_decide_float64_does():
    """A deep network whose rounding exceeds the tolerance of float32 is exact all the same."""
    generator, discriminator = make_networks(dtype=torch.float32)
    with torch.no_grad():  # two large terms that all but cancel
        discriminator[0].bias.add_(2e5)
    found = osgan.verify(generator, discriminator, "nonsaturating", make_real(torch.float32), latent_of(torch.float32))
    assert found.exact, found
    if found.precision == "float64":
        assert "in float32 they differ by" in found.reason
        assert found.tolerance == 1e-10


@pytest.mark.gpu
@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "rpgan"])
def test_verify_is_exact_where_tf32_is_on(loss):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    G, D = (network.cuda() for network in osgan.nets.dcgan(resolution=64, width=64, channels=3, latent_dim=100))
    real = torch.rand(16, 3, 64, 64, device="cuda") * 2 - 1
    found = osgan.verify(G, D, loss, real, osgan.Gaussian(100))
    assert found.exact, found
    assert torch.backends.cudnn.allow_tf32


def test_the_table_of_verify_begins_with_the_verdict():
    networks = make_networks()
    exact = osgan.verify(*networks, "hinge", make_real(), latent_of())
    assert str(exact).splitlines()[0] == "EXACT"
    not_exact = osgan.verify(*make_networks("batch"), "hinge", make_real(), latent_of())
    assert str(not_exact).splitlines()[0] == "NOT EXACT"
    for word in ("precision", "generator error", "discriminator error", "logits per image", "optimizers"):
        assert word in str(exact)
