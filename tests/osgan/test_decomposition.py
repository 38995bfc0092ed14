import pytest
import torch
from reference import ASYMMETRIC, LOSSES, gradient_errors, make_networks, make_real, make_scheme

from osgan import losses
from osgan.decomposition import decompose
from osgan.errors import InputError

FLOOR = 2e-8  # of |dL_G/ds|: what may be added to D's derivative in float32

MAGNITUDES = (0.0, 1e-45, 1e-40, 1e-38, 1e-30, 1e-8, 1.0, 20.0, 88.0, 89.0, 200.0, 1e4, 1e30)


def extreme_pairs(dtype):
    values = torch.tensor([*MAGNITUDES, torch.finfo(dtype).max], dtype=dtype)
    values = torch.cat([values, -values])  # -0. and the negative subnormals too
    assert values.isfinite().all()
    assert (values[values != 0].abs() < torch.finfo(dtype).tiny).any(), "no subnormal in the sweep"
    return (grid.flatten() for grid in torch.meshgrid(values, values, indexing="ij"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("num_logits", [1, 4096])
def test_finite_for_every_finite_logit(name, dtype, num_logits):
    real, fake = (logits.float() for logits in extreme_pairs(dtype))
    gradients = [gradient / num_logits for gradient in losses.LOSSES[name].gradients(real, fake)]
    assert all(gradient.isfinite().all() for gradient in gradients)
    carrier, ratio = decompose(gradients[1], gradients[2], dtype)
    assert carrier.to(dtype).isfinite().all()
    assert ratio.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_sent_times_the_ratio_is_the_generators_gradient(name, dtype):
    real, fake = (logits.float() for logits in extreme_pairs(dtype))
    gradients = losses.LOSSES[name].gradients(real, fake)
    carrier, ratio = decompose(gradients.fake, gradients.generator, dtype)
    sent = carrier.to(dtype)
    normal = gradients.generator.abs() > 1e-30  # a subnormal product has fewer digits
    assert normal.any()
    # one rounding of the quotient and one of the product, whatever the precision of the logits
    torch.testing.assert_close(
        (ratio.double() * sent.double())[normal], gradients.generator[normal].double(), rtol=2e-7, atol=0
    )
    moved = (sent.double() - gradients.fake.double()).abs()
    rounding = torch.finfo(torch.bfloat16).eps / 2 if dtype == torch.bfloat16 else 0.0
    allowed = FLOOR * gradients.generator.double().abs() + rounding * gradients.fake.double().abs() + 1e-38
    assert (moved <= allowed).all()


def test_the_carrier_is_floored_with_its_sign_kept():
    fake = torch.tensor([0.0, -0.0, 1e-20, -1e-20, 0.5, -0.5])
    carrier, ratio = decompose(fake, torch.tensor([-1.0, -1.0, -1.0, 2.0, -1.0, 2.0]))
    floor = carrier[0].item()
    assert 1e-9 <= floor <= FLOOR
    torch.testing.assert_close(carrier, torch.tensor([floor, -floor, floor, -2 * floor, 0.5, -0.5]), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        ratio, torch.tensor([-1 / floor, 1 / floor, -1 / floor, -1 / floor, -2, -4]), rtol=1e-6, atol=0
    )


def test_a_flat_loss_of_both_has_ratio_zero():
    carrier, ratio = decompose(torch.tensor([0.0, -0.0, 1.0]), torch.tensor([0.0, 0.0, 0.0]))
    assert carrier.tolist() == [0.0, 0.0, 1.0]
    assert ratio.tolist() == [0.0, 0.0, 0.0]


def saturated_scheme(loss, shift, dtype, name="one_stage"):
    generator, discriminator = make_networks("group", dtype=dtype)
    with torch.no_grad():
        discriminator[5].bias += shift
    return make_scheme(name, generator, discriminator, loss)


def record_logits(discriminator):
    seen = []
    discriminator.register_forward_hook(lambda module, images, logits: seen.append(logits.detach()))
    return seen


@pytest.mark.parametrize(("loss", "shift"), [("hinge", -5.0), ("nonsaturating", -200.0), ("rpgan", -200.0)])
def test_exact_where_the_discriminator_has_won(loss, shift):
    scheme = saturated_scheme(loss, shift, torch.float32)
    seen = record_logits(scheme.discriminator)
    generator_error, discriminator_error = gradient_errors(scheme, make_real(torch.float32))
    assert seen[-1].dtype == torch.float32
    assert seen[-1].shape == (12,)
    if loss == "hinge":
        assert (seen[-1][6:] < -1).all()
    else:
        assert (seen[-1] + 200).abs().max() < 10
    assert generator_error <= 1e-5
    assert discriminator_error <= 1e-5


def test_exact_where_a_least_squares_logit_is_exactly_zero():
    scheme = saturated_scheme("lsgan", 0.0, torch.float32)
    real = make_real(torch.float32)
    scheme.prepare(real)
    with torch.no_grad():  # put the third fake's logit at 0, in the very arithmetic of the step
        torch.manual_seed(1)
        logits = scheme.score(scheme.show(real, scheme.generate(real, ()), ())).fake

    class Shift(torch.nn.Module):
        def __init__(self, by):
            super().__init__()
            self.register_buffer("by", by)

        def forward(self, x):
            return x - self.by

    scheme.discriminator.append(Shift(logits[2].clone()))
    seen = record_logits(scheme.discriminator)
    generator_error, discriminator_error = gradient_errors(scheme, real)
    assert seen[-1][6 + 2] == 0
    assert seen[-1].count_nonzero() == 11
    assert generator_error <= 1e-5
    assert discriminator_error <= 1e-5


@pytest.mark.parametrize("loss", ["hinge", "nonsaturating"])
def test_the_floor_moves_the_discriminators_gradient_by_less_than_float32_can_tell(loss):
    scheme = saturated_scheme(loss, -50.0, torch.float64)  # in float64, so that nothing else moves it
    generator_error, discriminator_error = gradient_errors(scheme, make_real())
    assert generator_error <= 1e-10
    assert discriminator_error <= 3e-8


def without_floor(fake, generator, dtype=None):
    return fake, generator / fake


@pytest.mark.parametrize(("loss", "shift"), [("hinge", -5.0), ("nonsaturating", -200.0)])
def test_without_the_floor_the_generator_dies(loss, shift, monkeypatch):
    monkeypatch.setattr("osgan.schemes.decompose", without_floor)
    scheme = saturated_scheme(loss, shift, torch.float32)
    generator_error, _ = gradient_errors(scheme, make_real(torch.float32))
    assert not generator_error <= 1e-5
    assert not all(p.grad.isfinite().all() for p in scheme.generator.parameters())


# relativistic average has a mean over the batch in every carrier
@pytest.mark.parametrize("loss", [loss for loss in ASYMMETRIC if loss != "ragan"])
def test_the_sweep_catches_a_missing_floor(loss):
    real, fake = extreme_pairs(torch.float32)
    gradients = losses.LOSSES[loss].gradients(real, fake)
    _, ratio = without_floor(gradients.fake, gradients.generator)
    assert not ratio.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_derivatives_of_half_precision_are_refused(dtype):
    with pytest.raises(InputError, match=f"must be float32 or float64, got {dtype}"):
        decompose(torch.ones(3, dtype=dtype), torch.ones(3, dtype=dtype))
