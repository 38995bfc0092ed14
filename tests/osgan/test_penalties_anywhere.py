"""Every penalty in every scheme and precision; through fused attention, compiled layers and reentrant ones."""

import copy

import pytest
import torch
from loops import make_loop, weights_after
from reference import (
    SCHEMES,
    gradients_of,
    latent_of,
    make_discriminator,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
)
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import osgan
from osgan.errors import InputError
from osgan.regularizers import R1, R2, GradientPenalty, WeightClipping
from osgan.training.engine import Engine

PENALTIES = {
    "r1": lambda: R1(0.5),
    "r2": lambda: R2(0.5),
    "gradient_penalty": lambda: GradientPenalty(1.0),
    "weight_clipping": lambda: WeightClipping(0.05),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_penalty_in_every_precision_and_scheme(scheme, precision, penalty):
    networks = make_networks(dtype=torch.float32)
    full, found = (
        weights_after(
            make_loop(
                scheme,
                Engine(precision=p),
                dtype=torch.float32,
                networks=networks,
                regularizers=(PENALTIES[penalty](),),
            ),
            2,
        )
        for p in ("fp32", precision)
    )
    assert {t.dtype for t in found if t.is_floating_point()} == {torch.float32}
    error = relative_error(found[-1:], full[-1:])
    assert error == 0 if precision == "fp32" else 0 < error < 2**-5


class Attention(nn.Module):
    """Images (N, 2, 8, 8) -> logits (N, 1), by fused attention over the pixels."""

    def __init__(self):
        super().__init__()
        self.qkv, self.score = nn.Conv2d(2, 24, 1), nn.Linear(8, 1)

    def forward(self, x):
        # Contiguous: the fused kernel of a CPU takes nothing else, and the plain formula would be used anyway.
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).contiguous().chunk(3, 2)
        return self.score(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0].mean(1))


class Checkpointed(Attention):
    """The same, computed again in the backward pass."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


def penalty_gradient(discriminator, penalty, real, fake):
    for p in discriminator.parameters():
        p.grad = None
    torch.manual_seed(0)
    penalty.accumulate(discriminator, real, fake, ())
    return [g for g in gradients_of(discriminator) if g is not None]


@pytest.mark.parametrize("build", [Attention, Checkpointed])
@pytest.mark.parametrize("penalty", [R1(1.0), R2(1.0), GradientPenalty(1.0)], ids=lambda p: type(p).__name__)
def test_penalties_go_through_fused_attention(penalty, build):
    discriminator = build().double()
    real, fake = make_real(), make_real()
    found = penalty_gradient(discriminator, penalty, real, fake)
    torch.manual_seed(0)
    images = penalty.at(real, fake).detach().requires_grad_()
    q, k, v = discriminator.qkv(images).flatten(2).transpose(1, 2).chunk(3, 2)
    attended = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v  # the plain formula
    (gradient,) = torch.autograd.grad(discriminator.score(attended.mean(1)).sum(), images, create_graph=True)
    expected = penalty.penalty(gradient.square().flatten(1).sum(1)).mean() * penalty.weight
    weights = [p for p in discriminator.parameters() if p is not discriminator.score.bias]
    assert relative_error(found, torch.autograd.grad(expected, weights)) <= 1e-10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_step_with_a_penalty_and_attention(scheme):
    generator, _ = make_networks()
    discriminator = Attention().double()
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in (generator, discriminator)]
    step = osgan.build_scheme(
        scheme, generator, discriminator, *optimizers, loss="hinge", latent=latent_of(), regularizers=(R1(1.0),)
    )
    assert torch.isfinite(torch.stack(step(make_real()))).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["wrapped", "in place", "a layer"])
def test_penalties_go_through_a_compiled_discriminator(how):
    plain = make_discriminator()
    compiled = copy.deepcopy(plain)
    if how == "wrapped":
        compiled = torch.compile(compiled, backend="aot_eager")
    elif how == "in place":
        compiled.compile(backend="aot_eager")
    else:
        compiled[2] = torch.compile(compiled[2], backend="aot_eager")
    real = make_real(torch.float32)
    found, expected = (penalty_gradient(d, R1(1.0), real, real) for d in (compiled, plain))
    assert relative_error(found, expected) <= 1e-6


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


class DifferentiableOnce(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = make_discriminator()

    def forward(self, x):
        return self.layers(Once.apply(x))


def test_a_layer_without_second_derivatives_is_said():
    generator, _ = make_networks()
    scheme = make_scheme("two_stage", generator, DifferentiableOnce().double(), "hinge", regularizers=(R1(1.0),))
    with pytest.raises(InputError, match="R1 differentiates the discriminator twice, and a layer of it cannot be"):
        scheme(make_real())


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", None, True, (1,)])
@pytest.mark.parametrize("penalty", [R1, R2, GradientPenalty, WeightClipping])
def test_weights_that_are_none(penalty, weight):
    with pytest.raises(InputError, match="above 0"):
        penalty(weight)


class Numbered(R1):
    """A user's penalty that counts its calls."""

    calls = 0

    def at(self, real, fake):
        self.calls += 1
        return real


def test_a_penalty_of_ones_own_is_left_as_it_was():
    penalty = Numbered(1.0)
    step = make_scheme("one_stage", *make_networks(), "hinge", regularizers=(penalty,))
    step.prepare(make_real())
    assert penalty.calls == 0
    step(make_real())
    assert penalty.calls == 1
