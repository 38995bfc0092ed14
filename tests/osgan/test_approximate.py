"""Penalties that ride along: approximate R1 and R2, and exact ones from the loss's own forward pass."""

import copy

import pytest
import torch
from recipe_reference import ALIKE, PENALTIES, assert_exact, both_gradients, gradients
from reference import (
    BATCH,
    LOSSES,
    SCHEMES,
    SYMMETRIC,
    gradients_of,
    make_labels,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
)
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

import osgan
from osgan.cost import count_work
from osgan.regularizers import AR1, AR2, R1, R2, GradientPenalty, parse_loss


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", ALIKE)
def test_both_gradients_are_those_of_the_reference(name, penalties, loss):
    assert_exact(make_scheme(name, *make_networks(), loss, regularizers=penalties), make_real())


@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", SCHEMES)
def test_the_discriminators_is_so_in_every_scheme_with_labels(name, penalties):
    scheme = make_scheme(name, *make_networks(conditional=True), "rpgan", regularizers=penalties)
    mine, theirs = both_gradients(scheme, make_real(), (make_labels(),))
    assert relative_error(mine[1], theirs[1]) <= 1e-10


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("name", ALIKE)
def test_real_and_fake_apart(name, joint):
    scheme = make_scheme(name, *make_networks(), "hinge", regularizers=PENALTIES["a share"])
    scheme.joint_batch = joint
    assert_exact(scheme, make_real())


@pytest.mark.parametrize("name", ALIKE)
def test_a_forgotten_penalty_is_seen(name):
    scheme = make_scheme(name, *make_networks(), "rpgan", regularizers=PENALTIES["both"])
    (_, mine), (_, theirs) = both_gradients(scheme, make_real(), regularizers=PENALTIES["both"][:1])
    assert relative_error(mine, theirs) > 1e-4


def test_a_ratio_without_the_penalty_would_be_wrong():
    """The carrier holds the penalty's derivative: G's gradient is right because the ratio knows of it."""
    scheme = make_scheme("one_stage", *make_networks(), "nonsaturating", regularizers=(AR2(50.0),))
    plain = make_scheme("one_stage", *copy.deepcopy((scheme.generator, scheme.discriminator)), "nonsaturating")
    forget = type(scheme).differentiate

    def without(self, scored, num_images, due=None):
        slopes, stats = forget(self, scored, num_images, due)
        return slopes._replace(generator=slopes.generator * slopes.fake / plain_slopes[0].fake), stats

    plain.prepare(make_real())
    real, plain_slopes = make_real(), []
    torch.manual_seed(1)
    batch = plain.show(real, plain.generate(real, ()), ())
    plain_slopes.append(plain.differentiate(plain.score(batch), len(real))[0])
    scheme.differentiate = without.__get__(scheme)
    mine, theirs = both_gradients(scheme, real)
    assert relative_error(mine[0], theirs[0]) > 1e-3
    assert relative_error(mine[1], theirs[1]) <= 1e-10


@pytest.mark.parametrize("loss", ["hinge", "lsgan", "nonsaturating"])
def test_a_carrier_that_the_penalty_takes_to_nothing_is_floored(loss):
    """Where the penalty's derivative is the loss's own with the other sign nothing would go through D."""
    scheme = make_scheme("one_stage", *make_networks(), loss, regularizers=(AR2(1.0),))
    scheme.prepare(make_real())
    take = type(scheme).differentiate

    def cancelled(self, scored, num_images, due=None):
        slopes, stats = take(self, scored, num_images, due)
        return slopes._replace(fake=torch.zeros_like(slopes.fake)), stats

    networks, real = copy.deepcopy((scheme.generator, scheme.discriminator)), make_real()
    scheme.differentiate = cancelled.__get__(scheme)
    torch.manual_seed(1)
    expected, _ = gradients(scheme, *networks, real)
    torch.manual_seed(1)
    scheme(real)
    assert relative_error(gradients_of(scheme.generator), expected) <= 1e-10


@pytest.mark.parametrize("name", ALIKE)
def test_lazily_every_kth_step_k_times_as_strong(name):
    lazy = (AR1(0.3, every=3), AR2(0.7, every=2), R1(0.2, every=4))
    scheme = make_scheme(name, *make_networks(), "rpgan", regularizers=lazy)
    assert scheme.period == 12
    for step in range(5):
        due = [type(r)(r.every * r.weight) for r in lazy if step % r.every == 0]
        assert_exact(scheme, make_real(), regularizers=due, seed=step)


@pytest.mark.parametrize(("approximate", "exact"), [(AR1, R1), (AR2, R2)], ids=["ar1", "ar2"])
def test_the_mean_over_the_noise_tends_to_the_exact_penalty(approximate, exact):
    """With noise along the axes in turn, scaled to be of variance 1, no chance is left: the mean is the norm."""
    _, discriminator = make_networks()
    discriminator[1] = discriminator[4] = nn.Tanh()  # a leaky ReLU has kinks
    images = make_real(batch=2)
    size = images[0].numel()
    differences = {}
    for sigma in (1e-2, 1e-3, 1e-4):
        values, slopes = [], []
        for axis in torch.eye(size, dtype=torch.float64).view(size, *images.shape[1:]):
            penalty = approximate(0.8, sigma=sigma)
            here, there = (discriminator(x) for x in (images, images + sigma * size**0.5 * axis))
            values.append(penalty.value(here, there, len(images)))
        for parameter in discriminator.parameters():
            parameter.grad = None
        torch.stack(values).mean().backward()
        slopes = [p.grad.clone() for p in discriminator.parameters()]
        for parameter in discriminator.parameters():
            parameter.grad = torch.zeros_like(parameter)
        exact(0.8).accumulate(discriminator, images, images, ())
        differences[sigma] = relative_error(slopes, gradients_of(discriminator))
    assert differences[1e-4] < 1e-2
    assert differences[1e-2] > 5 * differences[1e-3] > 25 * differences[1e-4]


@pytest.mark.parametrize("penalty", [AR1, AR2])
def test_the_derivative_is_that_of_the_value(penalty):
    here, there = torch.randn(2, 5, dtype=torch.float64)
    each = penalty(0.7, every=3, sigma=0.2)
    each.scale = torch.tensor(0.5, dtype=torch.float64)
    here.requires_grad_(), there.requires_grad_()
    of_here, of_there = torch.autograd.grad(each.value(here, there, 4), (here, there))
    torch.testing.assert_close(each.derivative(here, there, 4).detach(), of_here, rtol=1e-12, atol=0)
    torch.testing.assert_close(of_there, -of_here, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        each.value(here, there, 4).item(), 0.5 * 3 * 0.35 * 25 * ((here - there) ** 2).sum().item() / 4
    )


def test_a_user_who_writes_lambda_has_the_same():
    here, there = torch.randn(2, 5, dtype=torch.float64)
    theirs = 100 * (here - there).square().mean()  # Seaweed-APT's, sigma 0.01
    mine = AR1(2 * 100 * 0.01**2, sigma=0.01).value(here, there, 5)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("loss", SYMMETRIC)
def test_a_discriminator_that_mixes_samples(loss):
    """A penalty at the fakes gives a symmetric loss a ratio of its own for each; at the real ones it does not."""
    assert_exact(make_scheme("one_stage", *make_networks("batch"), loss, regularizers=(AR1(0.7),)), make_real())
    for penalties in (PENALTIES["both"], PENALTIES["ar2"]):
        scheme = make_scheme("one_stage", *make_networks("batch"), loss, regularizers=penalties)
        with pytest.raises(osgan.InputError, match="mixes samples"):
            scheme.prepare(make_real())
        assert_exact(make_scheme("simultaneous", *make_networks("batch"), loss, regularizers=penalties), make_real())


@pytest.mark.parametrize("loss", ["rpgan", "minimax"])
def test_patches(loss):
    scheme = make_scheme("simultaneous", *make_networks(patch=True), loss, regularizers=PENALTIES["both"])
    assert_exact(scheme, make_real())
    scheme = make_scheme("one_stage", *make_networks(patch=True), "minimax", regularizers=(AR1(0.7), R1(0.2)))
    assert_exact(scheme, make_real())
    scheme = make_scheme("one_stage", *make_networks(patch=True), "minimax", regularizers=(AR2(0.7),))
    with pytest.raises(osgan.InputError, match="logits per image"):
        scheme.prepare(make_real())


@pytest.mark.parametrize("penalty", [AR1, AR2])
def test_a_share_of_a_mixed_batch_is_refused(penalty):
    scheme = make_scheme("simultaneous", *make_networks("batch"), "rpgan", regularizers=(penalty(1, share=0.5),))
    with pytest.raises(osgan.InputError, match=r"share=0.5 compares scores of the whole batch.*use share=1"):
        scheme.prepare(make_real())


class Noisy(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


@pytest.mark.parametrize("layer", [Noisy, lambda: nn.Dropout(0.5)], ids=["noise", "dropout"])
def test_a_score_that_moves_by_itself_is_refused(layer):
    generator, discriminator = make_networks()
    discriminator[3] = layer()
    scheme = make_scheme("one_stage", generator, discriminator, "rpgan", regularizers=(AR1(1),))
    with pytest.raises(osgan.InputError, match=r"score of the same image moves by itself.*the exact penalty R1"):
        scheme.prepare(make_real())
    make_scheme("one_stage", generator, discriminator.eval(), "rpgan", regularizers=(AR1(1),))


@pytest.mark.parametrize("name", ALIKE)
def test_spectral_norm_of_one_call_serves_an_image_and_its_neighbour(name):
    generator, discriminator = make_networks()
    for place in (0, 2, 5):
        discriminator[place] = nn.utils.parametrizations.spectral_norm(discriminator[place])
    scheme = make_scheme(name, generator, discriminator, "rpgan", regularizers=PENALTIES["both"])
    for joint in (True, False):
        scheme.joint_batch = joint
        scheme(make_real())
        slopes = [penalty.derivative for penalty in scheme.regularizers]
        scored = scheme.score(scheme.show(*[make_real()] * 2, ()))
        moves = (scored.real - scored.moved[0]).norm() / 0.01
        assert moves < 100 * scored.real.norm(), "two calls of D would differ by their power iteration"
        assert len(slopes) == 2


def test_flops_of_a_step_with_penalties():
    """A penalty that rides costs a pass of its images, forward and backward; so does an exact one on the loss's way."""
    networks, real = make_networks(), make_real()

    def flops(*regularizers):
        scheme = make_scheme("one_stage", *copy.deepcopy(networks), "rpgan", regularizers=regularizers)
        scheme.prepare(real)
        return count_work(scheme, real).flops

    plain, approximate, share, exact = flops(), flops(*PENALTIES["both"]), flops(AR1(1, share=0.5)), flops(R1(1), R2(1))
    alone = flops(type("Own", (R1,), {})(1), type("Own", (R2,), {})(1))  # a pass of its own
    assert plain < share < approximate < alone
    assert plain < exact < alone
    assert approximate == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rpgan+ar1=0.1+ar2=0.2", [(AR1, 0.1, 1, 0.01, 1), (AR2, 0.2, 1, 0.01, 1)]),
        ("hinge+ar1=1/4+sigma=0.1+share=0.25", [(AR1, 1, 4, 0.1, 0.25)]),
        ("hinge+share=0.5+ar2=1e-1", [(AR2, 0.1, 1, 0.01, 0.5)]),
    ],
)
def test_how_it_is_written(text, expected):
    _, found = parse_loss(text)
    assert [(type(r), r.weight, r.every, r.sigma, r.share) for r in found] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hinge+ar1=0", "AR1 needs a weight above 0, got 0"),
        ("hinge+ar2=1/0", "AR2 needs an interval of 1 step or more, got 0"),
        ("hinge+ar1=1+sigma=0", "AR1 needs a sigma above 0, got 0"),
        ("hinge+ar1=1+share=1.5", "AR1 needs a share of the batch above 0 and at most 1, got 1.5"),
        ("hinge+ar1=1+share=0", "AR1 needs a share of the batch above 0 and at most 1, got 0"),
        ("hinge+ar1=1+share=half", "option 'share' takes a number, got 'half'"),
        ("hinge+sigma=0.1", "'sigma' is an option of ar1 and ar2, and the loss has neither"),
        ("hinge+r1=1+share=0.5", "'share' is an option of ar1 and ar2, and the loss has neither"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(osgan.InputError, match=message):
        parse_loss(text)


def test_checkpointing_and_fused_attention_need_no_second_derivative():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return 2 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, gradient):
            return 2 * gradient

    class Layer(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    generator, discriminator = make_networks()
    discriminator[3] = Layer()
    assert_exact(
        make_scheme("one_stage", generator, discriminator, "rpgan", regularizers=PENALTIES["both"]), make_real()
    )
    scheme = make_scheme("one_stage", generator, discriminator, "rpgan", regularizers=(R1(1),))
    with pytest.raises(osgan.InputError, match=r"differentiates the discriminator twice.*approximate one: AR1, AR2"):
        scheme.prepare(make_real())


class Attention(nn.Module):
    """Scores by attention of 16 positions, the fused kernel where second derivatives are not asked for."""

    def __init__(self, *, checkpointed):
        super().__init__()
        self.embed, self.qkv, self.last = nn.Linear(8, 8), nn.Linear(8, 24), nn.Linear(8, 1)
        self.checkpointed = checkpointed

    def forward(self, images):
        tokens = self.embed(images.reshape(len(images), 16, 8))
        mixed = checkpoint(self.attend, tokens, use_reentrant=False) if self.checkpointed else self.attend(tokens)
        return self.last(mixed.mean(1))

    def attend(self, tokens):
        q, k, v = self.qkv(tokens).view(len(tokens), 16, 3, 2, 4).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        return tokens + scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", ALIKE[1:])  # two_stage_reused leaves D's gradients of G's update behind
def test_checkpointed_and_fused_attention(name, penalties, checkpointed):
    generator, discriminator = make_networks()[0], Attention(checkpointed=checkpointed).double()
    scheme = make_scheme(name, generator, discriminator, "rpgan", regularizers=penalties)
    networks, real = copy.deepcopy((generator, discriminator)), make_real()
    scheme.prepare(real)
    torch.manual_seed(1)
    with sdpa_kernel(SDPBackend.MATH):
        expected = gradients(scheme, *networks, real)
    torch.manual_seed(1)
    scheme(real)
    for network, theirs in zip((generator, discriminator), expected, strict=True):
        assert relative_error(gradients_of(network), theirs) <= 1e-10


class Bfloat16(nn.Module):
    """A network whose images come out in bfloat16, as under autocast."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z):
        return self.network(z).bfloat16()


@pytest.mark.parametrize("penalties", [PENALTIES["both"], PENALTIES["exact"]], ids=["approximate", "exact"])
@pytest.mark.parametrize("name", ALIKE)
def test_fakes_in_bfloat16_are_differentiated_in_float32(name, penalties):
    generator, discriminator = make_networks(dtype=torch.float32)
    scheme = make_scheme(name, Bfloat16(generator), discriminator, "rpgan", regularizers=penalties, dtype=torch.float32)
    real = make_real(torch.float32)
    scheme.prepare(real)
    networks = copy.deepcopy((scheme.generator, scheme.discriminator))
    torch.manual_seed(1)
    _, expected = gradients(scheme, *copy.deepcopy(networks), real.float(), as_float32=True)
    torch.manual_seed(1)
    scored = scheme.score(scheme.show(real, scheme.generate(real, ()).detach(), ()))
    slopes, _ = scheme.differentiate(scored, len(real))
    torch.autograd.backward(scored.roots, slopes.at_roots(), inputs=list(discriminator.parameters()))
    assert relative_error(gradients_of(discriminator), expected) <= 1e-3


def test_gradient_penalty_keeps_its_own_pass():
    networks = make_networks()
    scheme = make_scheme("one_stage", *networks, "rpgan", regularizers=(GradientPenalty(1.0), R1(1.0)))
    scheme.prepare(make_real())
    assert [type(r) for r in scheme.taken_on_the_way()] == [R1]


@pytest.mark.parametrize("name", ALIKE)
def test_accumulation_is_the_mean_over_the_parts(name):
    for penalties in PENALTIES.values():
        scheme = make_scheme(name, *make_networks(), "rpgan", regularizers=penalties, accumulate=3)
        assert_exact(scheme, make_real())


def test_a_penalty_with_its_own_pass_counts_a_part():
    own = type("Own", (R1,), {})
    found = []
    networks, real = make_networks(), make_real()
    for penalty in (own(0.7), R1(0.7)):
        scheme = make_scheme("one_stage", *copy.deepcopy(networks), "rpgan", regularizers=(penalty,), accumulate=2)
        torch.manual_seed(1)
        scheme(real)
        found.append(gradients_of(scheme.discriminator))
    assert relative_error(*found) <= 1e-12


def test_what_is_no_division():
    scheme = make_scheme("one_stage", *make_networks(), "rpgan", accumulate=4)
    with pytest.raises(osgan.InputError, match=f"accumulate=4 takes a batch in 4 equal parts: {BATCH} images"):
        scheme(make_real())
