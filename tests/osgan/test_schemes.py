import copy

import pytest
import torch
from reference import (
    ALTERNATING,
    ASYMMETRIC,
    BATCH,
    EXACT,
    LATENT_DIM,
    LOSSES,
    SCHEMES,
    SYMMETRIC,
    TEXTBOOK,
    Generator,
    as_custom,
    assert_exact,
    assign,
    changed,
    gradient_errors,
    gradients_of,
    latent_of,
    make_discriminator,
    make_labels,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
    snapshot,
    two_gradients,
    with_gradients,
)
from waiting import Waiting, waits_for_nothing

import osgan
from osgan import nets
from osgan.decomposition import decompose
from osgan.nets.dcgan import dcgan
from osgan.structure import Structure

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
SAME_WEIGHTS = pytest.mark.parametrize("name", ["one_stage", "simultaneous"])


def weights_of(scheme):
    return [*scheme.generator.parameters(), *scheme.discriminator.parameters()]


def train(name, networks, loss, num_steps, *, seed=3, **options):
    """Train a copy of the networks; return its weights."""
    generator, discriminator = copy.deepcopy(networks)
    scheme = make_scheme(name, generator, discriminator, loss, **options)
    dtype = next(generator.parameters()).dtype
    torch.manual_seed(seed)
    for _ in range(num_steps):
        scheme(make_real(dtype))
    assert {weight.dtype for weight in weights_of(scheme)} == {dtype}
    return weights_of(scheme)


def train_reference(networks, loss, num_steps, *, seed=3, lr, optimizer):
    generator, discriminator = copy.deepcopy(networks)
    optimizers = [optimizer(network.parameters(), lr=lr) for network in (generator, discriminator)]
    dtype = next(generator.parameters()).dtype
    torch.manual_seed(seed)
    for _ in range(num_steps):
        real = make_real(dtype)
        z = latent_of(dtype)(BATCH, real.device)
        for network, found in zip(
            (generator, discriminator), two_gradients(generator, discriminator, loss, z, real), strict=True
        ):
            assign(network, found)
        for each in optimizers:
            each.step()
    return [*generator.parameters(), *discriminator.parameters()]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("middle", ["none", "group", "instance"])
@DTYPES
@SAME_WEIGHTS
def test_both_gradients_are_those_of_the_reference(name, loss, middle, dtype):
    assert_exact(make_scheme(name, *make_networks(middle, dtype=dtype), loss), make_real(dtype))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_16_pixel_dcgan_is_exact(loss):
    generator, discriminator = dcgan(resolution=16, width=8, channels=2, latent_dim=LATENT_DIM)
    real = torch.rand(4, 2, 16, 16, dtype=torch.float64) * 2 - 1
    assert_exact(make_scheme("one_stage", generator.double(), discriminator.double(), loss), real)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_custom_loss_without_derivatives_is_exact(loss):
    assert_exact(make_scheme("one_stage", *make_networks(), as_custom(loss)), make_real())


@pytest.mark.parametrize("loss", LOSSES)
@DTYPES
def test_one_stage_and_simultaneous_take_the_same_gradients(loss, dtype):
    networks, real = make_networks(dtype=dtype), make_real(dtype)
    found = []
    for name in ("one_stage", "simultaneous"):
        scheme = make_scheme(name, *copy.deepcopy(networks), loss)
        torch.manual_seed(1)
        stats = scheme(real)
        assert stats.generator_loss.shape == stats.discriminator_loss.shape == ()
        found.append([*gradients_of(scheme.generator), *gradients_of(scheme.discriminator), torch.stack(list(stats))])
    assert relative_error(*found) <= EXACT[dtype]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("optimizer", "lr"), [(torch.optim.SGD, 0.1), (torch.optim.Adam, 1e-3)])
def test_five_steps_end_at_the_weights_of_the_reference(loss, optimizer, lr):
    networks = make_networks()
    options = {"lr": lr, "optimizer": optimizer}
    reference = train_reference(networks, loss, 5, **options)
    assert relative_error(reference, [p for net in networks for p in net.parameters()]) > 1e-4
    for name in ("one_stage", "simultaneous"):
        # Adam divides by the root of the squared gradient, which blows rounding up where a gradient is near 0
        tolerance = 1e-10 if optimizer is torch.optim.SGD else 1e-8
        assert relative_error(train(name, networks, loss, 5, **options), reference) <= tolerance
    for name in ALTERNATING:
        assert relative_error(train(name, networks, loss, 5, **options), reference) > 1e-5


@pytest.mark.parametrize("loss", LOSSES)
def test_the_losses_reported_are_the_textbooks(loss):
    generator, discriminator = make_networks()
    real = make_real()
    torch.manual_seed(1)
    with torch.no_grad():
        fake = copy.deepcopy(generator)(latent_of()(BATCH, real.device))
        logits = discriminator(real), discriminator(fake)
    torch.manual_seed(1)
    stats = make_scheme("one_stage", generator, discriminator, loss)(real)
    for mine, textbook in zip(stats, TEXTBOOK[loss], strict=True):
        torch.testing.assert_close(mine, textbook(*logits), rtol=1e-12, atol=0)


def spread_logits(scheme, real, seed=1):
    """Let some fakes win and some lose (above and below -1, for hinge, none on the kink): their ratios differ."""
    torch.manual_seed(seed)
    with torch.no_grad():
        scheme.discriminator[5].weight *= 5
        logits = scheme.discriminator(scheme.generate(real, ()))
        scheme.discriminator[5].bias -= logits.quantile(0.5) + (1 if scheme.loss.name == "hinge" else 0)


CORRUPTIONS = {
    "ratio dropped": lambda carrier, ratio: (carrier, torch.ones_like(ratio)),
    "sign flipped": lambda carrier, ratio: (carrier, -ratio),
    "one ratio for all": lambda carrier, ratio: (carrier, ratio.mean().expand_as(ratio)),
    "the neighbour's ratio": lambda carrier, ratio: (carrier, ratio.roll(1)),
}


@pytest.mark.parametrize("loss", ASYMMETRIC)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_wrong_ratio_is_caught(loss, corruption, monkeypatch):
    scheme, real = make_scheme("one_stage", *make_networks(), loss), make_real()
    spread_logits(scheme, real)
    # float64 tells the floor under D's gradient, where hinge has none
    assert_exact(scheme, real, tolerance=3e-8)
    monkeypatch.setattr("osgan.schemes.decompose", lambda *given: CORRUPTIONS[corruption](*decompose(*given)))
    generator_error, discriminator_error = gradient_errors(scheme, real)
    assert generator_error > 0.05
    assert discriminator_error <= 3e-8
    with pytest.raises(AssertionError):
        assert_exact(scheme, real)


@pytest.mark.parametrize("loss", SYMMETRIC)
@SAME_WEIGHTS
def test_batch_norm_is_exact_with_a_symmetric_loss(name, loss):
    assert_exact(make_scheme(name, *make_networks("batch"), loss), make_real())


@pytest.mark.parametrize("loss", SYMMETRIC)
def test_real_and_fake_joined_under_batch_norm_are_caught(loss):
    scheme = make_scheme("one_stage", *make_networks("batch"), loss)
    scheme.structure = Structure(logits_per_image=1, cross_sample=0.0)  # a lie
    generator_error, _ = gradient_errors(scheme, make_real())
    assert generator_error > 0.1
    with pytest.raises(AssertionError):
        assert_exact(scheme, make_real())


@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_one_stage_would_be_wrong_where_it_refuses(loss):
    """The refusal is not caution: forced through, the same check fails by far."""
    scheme = make_scheme("one_stage", *make_networks("batch"), loss)
    scheme.structure = Structure(logits_per_image=1, cross_sample=1.0)
    real = make_real()
    spread_logits(scheme, real)
    generator_error, discriminator_error = gradient_errors(scheme, real)
    assert generator_error > 1e-3 or discriminator_error > 1e-3


@pytest.mark.parametrize("loss", ASYMMETRIC)
@pytest.mark.parametrize(
    ("middle", "patch", "reason"),
    [
        ("batch", False, "mixes samples"),
        ("crowd", False, "mixes samples"),
        ("whisper", False, "mixes samples"),
        ("group", True, "4 logits per image"),
        ("batch", True, "mixes samples"),
    ],
)
def test_refused_with_the_reason_and_the_way_out_and_nothing_touched(loss, middle, patch, reason):
    scheme = make_scheme("one_stage", *make_networks(middle, patch=patch), loss, lr=0.1)
    with_gradients(scheme.generator, scheme.discriminator)
    before = snapshot(scheme.generator, scheme.discriminator)
    real = make_real()
    for _ in range(2):  # the second step is no luckier
        before["rng"] = torch.get_rng_state()
        with pytest.raises(osgan.InputError, match=f"(?s){reason}.*{loss!r}.*GroupNorm.*Simultaneous"):
            scheme(real)
        assert changed(before, snapshot(scheme.generator, scheme.discriminator)) == []
    assert scheme.structure is None


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("middle", "patch"), [("batch", False), ("crowd", False), ("group", True)])
def test_simultaneous_is_exact_everywhere(loss, middle, patch):
    assert_exact(make_scheme("simultaneous", *make_networks(middle, patch=patch), loss), make_real())


@pytest.mark.parametrize("loss", SYMMETRIC)
@pytest.mark.parametrize("middle", ["group", "batch"])
def test_one_stage_trains_a_patch_discriminator_with_a_symmetric_loss(loss, middle):
    assert_exact(make_scheme("one_stage", *make_networks(middle, patch=True), loss), make_real())


@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_batch_norm_in_eval_mode_is_exact(loss):
    scheme = make_scheme("one_stage", *make_networks("batch"), loss)
    scheme.discriminator.eval()
    with pytest.warns(osgan.InputWarning, match="the discriminator is trained in evaluation mode"):
        assert_exact(scheme, make_real())


class TwoOutputs(torch.nn.Module):
    def __init__(self, discriminator):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, x):
        return self.discriminator(x), x.mean()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_discriminator_that_returns_a_tuple_is_refused(name):
    generator, discriminator = make_networks()
    scheme = make_scheme(name, generator, TwoOutputs(discriminator), "minimax")
    with pytest.raises(osgan.InputError, match=r"one tensor of logits.*returned tuple"):
        scheme(make_real())


@pytest.mark.parametrize("loss", LOSSES)
@SAME_WEIGHTS
def test_labels_reach_both_networks(name, loss):
    networks, labels, real = make_networks(conditional=True), make_labels(), make_real()
    assert_exact(make_scheme(name, *networks, loss), real, labels)
    scheme = make_scheme(name, *networks, loss)
    torch.manual_seed(1)
    scheme(real, labels.flip(0))  # other labels, other gradients
    flipped = [g.clone() for g in gradients_of(scheme.discriminator)]
    torch.manual_seed(1)
    scheme(real, labels)
    assert relative_error(gradients_of(scheme.discriminator), flipped) > 1e-3


class PlainTwoStage:
    """Alternating descent as a script would have it."""

    def __init__(self, networks, loss, *, fresh, lr):
        self.generator, self.discriminator = networks
        self.of_discriminator, self.of_generator = TEXTBOOK[loss]
        self.fresh = fresh
        self.lr = lr

    def descend(self, network, loss):
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= self.lr * gradient

    def step(self, real, *labels):
        def make():
            return self.generator(latent_of()(BATCH, real.device), *labels)

        def score(images):
            return self.discriminator(images, *labels).flatten()

        fake = make()
        self.descend(self.discriminator, self.of_discriminator(score(real), score(fake.detach())))
        if self.fresh:
            fake = make()
        self.descend(self.generator, self.of_generator(score(real).detach(), score(fake)))


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
@pytest.mark.parametrize("middle", ["group", "batch"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ALTERNATING)
def test_two_stages_are_a_plain_alternating_loop(name, loss, middle, conditional):
    networks = make_networks(middle, conditional=conditional)
    labels = (make_labels(),) if conditional else ()
    start = [p.clone() for network in networks for p in network.parameters()]
    ends = []
    for build in (
        lambda g, d: make_scheme(name, g, d, loss, lr=0.1),
        lambda g, d: PlainTwoStage((g, d), loss, fresh="reused" not in name, lr=0.1).step,
    ):
        generator, discriminator = copy.deepcopy(networks)
        step = build(generator, discriminator)
        torch.manual_seed(3)
        for _ in range(3):
            step(make_real(), *labels)
        ends.append([*generator.parameters(), *discriminator.parameters()])
    assert relative_error(ends[0], start) > 1e-4
    assert relative_error(*ends) <= 1e-10


def count_passes(name, middle, loss):
    """Return the calls of G and of D in one step, and the images that went through each."""
    scheme, real = make_scheme(name, *make_networks(middle), loss), make_real()
    scheme.prepare(real)
    counts = [0, 0, 0, 0]

    def counter(index):
        def hook(module, given, output):
            counts[index] += 1
            counts[index + 2] += len(output) if index else given[0].shape[0]

        return hook

    scheme.generator.register_forward_hook(counter(0))
    scheme.discriminator.register_forward_hook(counter(1))
    scheme(real)
    return counts[0], counts[1], counts[2] // BATCH, counts[3] // BATCH


# passes through G and D, and batches of images through them; real and fake share a pass when D is sample-wise
PASSES = {
    "two_stage": ((2, 2, 2, 3), (2, 3, 2, 3)),
    "two_stage_frozen": ((2, 2, 2, 3), (2, 3, 2, 3)),
    "two_stage_reused": ((1, 2, 1, 3), (1, 3, 1, 3)),
    "two_stage_reused_frozen": ((1, 2, 1, 3), (1, 3, 1, 3)),
    "simultaneous": ((1, 2, 1, 2), (1, 2, 1, 2)),
    "one_stage": ((1, 1, 1, 2), (1, 2, 1, 2)),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_passes_of_a_step(name):
    assert count_passes(name, "group", "minimax") == PASSES[name][0]
    assert count_passes(name, "batch", "minimax") == PASSES[name][1]


@pytest.mark.parametrize("name", SCHEMES)
def test_two_stages_score_the_reals_again_for_a_paired_loss(name):
    g_passes, d_passes, fakes, scored = PASSES[name][0]
    more = name in ALTERNATING
    assert count_passes(name, "group", "rpgan") == (g_passes, d_passes + more, fakes, scored + more)


@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan"])
@pytest.mark.parametrize("name", ALTERNATING)
def test_frozen_means_that_the_generators_update_leaves_no_gradient_in_the_discriminator(name, loss):
    scheme = make_scheme(name, *make_networks(), loss, lr=0.1)
    bias = scheme.discriminator[2].bias.requires_grad_(False)  # the user's own choice is kept
    used = []
    scheme.discriminator_optimizer.register_step_pre_hook(
        lambda *_: used.extend(p.grad.clone() for p in scheme.discriminator.parameters() if p is not bias)
    )
    scheme(make_real())
    left = [p.grad for p in scheme.discriminator.parameters() if p is not bias]
    same = all(torch.equal(a, b) for a, b in zip(left, used, strict=True))
    assert same == name.endswith("frozen")
    assert bias.grad is None
    assert [p is bias for p in scheme.discriminator.parameters()] == [
        not p.requires_grad for p in scheme.discriminator.parameters()
    ]


@pytest.mark.parametrize("name", SCHEMES)
def test_only_frozen_fresh_fakes_reach_the_discriminators_update_without_a_graph(name):
    scheme = make_scheme(name, *make_networks(), "nonsaturating")
    graphs = []
    scheme.generator.register_forward_hook(lambda module, z, fake: graphs.append(fake.requires_grad))
    scheme(make_real())
    assert graphs == {"two_stage": [True, True], "two_stage_frozen": [False, True]}.get(name, [True])


@pytest.mark.parametrize("name", ["two_stage_frozen", "two_stage_reused_frozen"])
def test_frozen_thaws_when_the_step_fails(name):
    scheme = make_scheme(name, *make_networks(), "nonsaturating")
    scheme.prepare(make_real())

    def fail(module, given, logits):
        if not any(p.requires_grad for p in module.parameters()):
            raise RuntimeError("out of memory")

    scheme.discriminator.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        scheme(make_real())
    assert all(p.requires_grad for p in scheme.discriminator.parameters())


@pytest.mark.parametrize("name", SCHEMES)
def test_fresh_fakes_draw_latents_again_and_reused_ones_do_not(name):
    scheme = make_scheme(name, *make_networks(), "nonsaturating")
    drawn = []
    gaussian = scheme.latent
    scheme.latent = lambda n, device: drawn.append(gaussian(n, device)) or drawn[-1]
    scheme(make_real())
    assert len(drawn) == (2 if name in ("two_stage", "two_stage_frozen") else 1)
    assert all(z.shape == (BATCH, LATENT_DIM) for z in drawn)
    if len(drawn) == 2:
        assert not torch.equal(*drawn)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_built_by_its_name(name):
    assert tuple(osgan.SCHEMES) == (*SCHEMES, "one_stage_staggered")  # of which tests/osgan/test_staggered.py
    scheme = make_scheme(name, *make_networks(), "hinge")
    assert isinstance(scheme, osgan.Scheme)
    if name in ALTERNATING:
        assert isinstance(scheme, osgan.TwoStage)
        assert scheme.fresh_fakes == ("reused" not in name)
        assert scheme.freeze == name.endswith("frozen")
    else:
        assert type(scheme) is {"one_stage": osgan.OneStage, "simultaneous": osgan.Simultaneous}[name]


def test_an_unknown_scheme_is_refused_with_the_nearest():
    with pytest.raises(osgan.InputError, match=r"unknown scheme 'onestage'\. Did you mean 'one_stage'\?.*two_stage"):
        make_scheme("onestage", *make_networks(), "hinge")


REGULARIZERS = (
    osgan.regularizers.R1(0.1),
    osgan.regularizers.R2(0.1),
    osgan.regularizers.AR1(0.1),
    osgan.regularizers.AR2(0.1, share=0.5),
    osgan.regularizers.GradientPenalty(0.1),
    osgan.regularizers.WeightClipping(0.5),
)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_a_step_reads_nothing_from_the_device(name, loss):
    scheme = make_scheme(name, *make_networks(), loss, lr=0.1, regularizers=REGULARIZERS)
    real = make_real()
    scheme(real)
    with Waiting():
        scheme(real)
    if loss == "hinge":
        scheme.loss = as_custom(loss)
        with Waiting():
            scheme(real)


def test_a_read_would_be_noticed():
    scheme = make_scheme("one_stage", *make_networks(), "hinge")
    scheme.loss = osgan.AdversarialLoss(
        "curious", lambda real, fake: fake - real, lambda real, fake: -fake * float(fake.mean() < 1e9)
    )
    scheme.prepare(make_real())
    with pytest.raises(AssertionError, match="waits for"), Waiting():
        scheme(make_real())


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_a_step_never_waits_for_the_gpu(name, loss, optimizer):
    generator, discriminator = (network.cuda() for network in make_networks(dtype=torch.float32))
    scheme = make_scheme(name, generator, discriminator, loss, lr=1e-3, optimizer=optimizer, regularizers=REGULARIZERS)
    real = make_real(torch.float32).cuda()
    scheme(real)
    scheme(real)
    with waits_for_nothing():
        scheme(real)


@pytest.mark.gpu
@pytest.mark.parametrize("loss", LOSSES)
def test_exact_on_the_gpu(loss):
    generator, discriminator = (network.cuda() for network in make_networks())
    assert_exact(make_scheme("one_stage", generator, discriminator, loss), make_real().cuda())


def test_networks_of_other_people_are_trained_as_they_are():
    networks = nets.build("reference:build", channels=2)
    assert type(networks.generator) is Generator
    assert type(networks.discriminator) is type(make_discriminator())
    assert networks.latent == osgan.Gaussian(LATENT_DIM)
    modules = [*networks.generator.modules(), *networks.discriminator.modules()]
    before = [p.clone() for p in (*networks.generator.parameters(), *networks.discriminator.parameters())]
    step = osgan.OneStage(
        networks.generator,
        networks.discriminator,
        torch.optim.Adam(networks.generator.parameters()),
        torch.optim.Adam(networks.discriminator.parameters()),
        loss="nonsaturating",
        latent=networks.latent,
    )
    for _ in range(2):
        stats = step(make_real(torch.float32))
    assert all(value.isfinite() for value in stats)
    after = [*networks.generator.parameters(), *networks.discriminator.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert [*networks.generator.modules(), *networks.discriminator.modules()] == modules
    assert all(not module._forward_hooks and not module._backward_hooks for module in modules)
