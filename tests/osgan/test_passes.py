"""osgan.tap and osgan.backward against plain autograd: each player's loss on its own, fakes detached for D's."""

import copy

import pytest
import torch
from reference import (
    ASYMMETRIC,
    BATCH,
    CHANNELS,
    EXACT,
    LATENT_DIM,
    LOSSES,
    SYMMETRIC,
    TEXTBOOK,
    Generator,
    make_discriminator,
    make_networks,
    make_real,
    relative_error,
)
from torch import nn

import osgan
from osgan.errors import NotExactError


def latents(dtype=torch.float64, batch=BATCH):
    return torch.randn(batch, LATENT_DIM, dtype=dtype, generator=torch.Generator().manual_seed(3))


def errors(networks, mine, of_both):
    """Return the relative errors of G's and D's `.grad` after `mine(G, D)`; of_both gives (d_loss, g_total)."""
    G, D = copy.deepcopy(networks)
    torch.manual_seed(5)
    d_loss, g_loss = of_both(G, D)
    of_d = torch.autograd.grad(d_loss, list(D.parameters()), retain_graph=True)
    of_g = torch.autograd.grad(g_loss, list(G.parameters()))
    G, D = copy.deepcopy(networks)
    torch.manual_seed(5)
    mine(G, D)
    return tuple(
        relative_error([p.grad for p in network.parameters()], reference)
        for network, reference in ((G, of_g), (D, of_d))
    )


def plain(loss, real, z, *, weight=1.0, more=lambda fake, real: 0.0):
    """Return the two losses as a loop of two gradients takes them at the same weights."""

    def of_both(G, D):
        fake = G(z)
        of_d, of_g = TEXTBOOK[loss]
        real_logits = D(real)
        d_loss = of_d(real_logits.flatten(), D(fake.detach()).flatten())
        g_loss = of_g(real_logits.flatten().detach(), D(fake).flatten())
        return d_loss, weight * g_loss + more(fake, real)

    return of_both


def step(loss, real, z, *, logits=True, joint=False, weight=1.0, **options):
    """Return the same as a step in one forward pass."""

    def mine(G, D):
        fake = G(z)
        leaf = osgan.tap(fake)
        real_logits, fake_logits = D(torch.cat([real, leaf])).chunk(2) if joint else (D(real), D(leaf))
        of_d, of_g = TEXTBOOK[loss]
        d_loss = of_d(real_logits.flatten(), fake_logits.flatten())
        g_loss = of_g(real_logits.flatten(), fake_logits.flatten())
        given = {key: value(fake, real) if key == "extra" else value for key, value in options.items()}
        pair = (real_logits, fake_logits) if logits else None
        mine.did = osgan.backward(leaf, d_loss, weight * g_loss, logits=pair, **given)

    return mine


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("middle", ["none", "group", "instance"])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_pass_under_a_sample_wise_d(loss, middle, joint, dtype):
    real, z = make_real(dtype), latents(dtype)
    mine = step(loss, real, z, joint=joint)
    assert max(errors(make_networks(middle, dtype=dtype), mine, plain(loss, real, z))) <= EXACT[dtype]
    assert mine.did.passes == 1


@pytest.mark.parametrize("patch", [False, True])
@pytest.mark.parametrize("middle", ["batch", "crowd", "group"])
@pytest.mark.parametrize("loss", LOSSES)
def test_two_passes_under_any_d(loss, middle, patch):
    real, z = make_real(), latents()
    mine = step(loss, real, z, logits=False)
    assert max(errors(make_networks(middle, patch=patch), mine, plain(loss, real, z))) <= 1e-10
    assert mine.did.passes == 2


@pytest.mark.parametrize("patch", [False, True])
@pytest.mark.parametrize("middle", ["batch", "crowd", "whisper"])
@pytest.mark.parametrize("loss", SYMMETRIC)
def test_one_pass_under_any_d_where_the_ratio_is_constant(loss, middle, patch):
    real, z = make_real(), latents()
    mine = step(loss, real, z, weight=0.25)
    assert max(errors(make_networks(middle, patch=patch), mine, plain(loss, real, z, weight=0.25))) <= 1e-10
    assert mine.did.passes == 1
    assert [x.item() for x in mine.did.ratio_range] == pytest.approx([-0.25, -0.25], rel=1e-12)


@pytest.mark.parametrize(("middle", "patch"), [("batch", False), ("crowd", False), ("group", True)])
@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_one_pass_is_refused_where_it_is_not_exact(loss, middle, patch):
    """Hinge too, though every fake is above -1 and its ratio -1 on this batch."""
    G, D = make_networks(middle, patch=patch)
    with pytest.raises(NotExactError, match="leave out logits="):
        step(loss, make_real(), latents())(G, D)
    assert all(p.grad is None for network in (G, D) for p in network.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_joint_batch_under_batch_norm_is_refused(loss):
    with pytest.raises(NotExactError, match="real logits depend on the fakes"):
        step(loss, make_real(), latents(), joint=True)(*make_networks("batch"))


def l1(fake, real):
    return 10 * (fake - real).abs().mean()


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "wgan"])
def test_losses_past_d_and_a_weight(loss, logits):
    real, z = make_real(), latents()
    for extra in (l1, lambda f, r: [0.5 * l1(f, r), 0.5 * l1(f, r)], lambda f, r: {"l1": l1(f, r)}):
        mine = step(loss, real, z, logits=logits, extra=extra)
        assert max(errors(make_networks(), mine, plain(loss, real, z, more=l1))) <= 1e-10
    mine = step(loss, real, z, logits=logits, extra=l1, weight=torch.tensor(0.3, dtype=torch.float64))
    assert max(errors(make_networks(), mine, plain(loss, real, z, weight=0.3, more=l1))) <= 1e-10


@pytest.mark.parametrize("logits", [False, True])
def test_an_adaptive_weight(logits):
    """That of VQGAN: the gradients of both terms at G's last layer, their sizes' ratio."""
    real, z = make_real(), latents()
    found = {}

    def adaptive(of_reconstruction, of_adversary):
        found[len(found)] = weight = (of_reconstruction.norm() / (of_adversary.norm() + 1e-4)).clamp(0, 1e4).detach()
        return weight

    def of_both(G, D):
        fake, last = G(z), G.layers[3].weight
        d_loss, _ = plain("hinge", real, z)(G, D)
        g_loss = TEXTBOOK["hinge"][1](None, D(fake).flatten())
        reconstruction = l1(fake, real)
        grads = [torch.autograd.grad(x, last, retain_graph=True)[0] for x in (reconstruction, g_loss)]
        return d_loss, adaptive(*grads) * g_loss + reconstruction

    def mine(G, D):
        fake, last = G(z), G.layers[3].weight
        leaf = osgan.tap(fake)
        real_logits, fake_logits = D(real), D(leaf)
        of_d, of_g = TEXTBOOK["hinge"]
        reconstruction = l1(fake, real)
        (of_reconstruction,) = torch.autograd.grad(reconstruction, last, retain_graph=True)

        def weight(arrived):
            return adaptive(of_reconstruction, torch.autograd.grad(fake, last, arrived, retain_graph=True)[0])

        d_loss = of_d(real_logits.flatten(), fake_logits.flatten())
        pair = (real_logits, fake_logits) if logits else None
        osgan.backward(
            leaf, d_loss, of_g(None, fake_logits.flatten()), extra=reconstruction, weight=weight, logits=pair
        )

    assert max(errors(make_networks(), mine, of_both)) <= 1e-10
    assert found[1] == pytest.approx(found[0].item(), rel=1e-10)
    assert found[0] not in (0, 1, 1e4)


class Judges(nn.Module):
    """Several Ds, of one logit each, or with features."""

    def __init__(self, *judges):
        super().__init__()
        self.judges = nn.ModuleList(judges)

    def forward(self, images):
        return [judge(x).flatten() for judge, x in zip(self.judges, images, strict=True)]


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "lsgan"])
def test_several_ds_with_a_leaf_each(loss, logits):
    real, z = make_real(), latents()
    networks = Generator().double(), Judges(make_discriminator("group"), make_discriminator("instance")).double()
    of_d, of_g = TEXTBOOK[loss]

    def of_both(G, D):
        fake = G(z)
        r, f, through = D([real] * 2), D([fake.detach()] * 2), D([fake] * 2)
        d_loss = sum(of_d(a, b) for a, b in zip(r, f, strict=True))
        return d_loss, of_g(None, through[0]) + 0.5 * of_g(None, through[1])

    def mine(G, D):
        fake = G(z)
        leaves = osgan.tap(fake, fake)
        r, f = D([real] * 2), D(leaves)
        d_loss = sum(of_d(a, b) for a, b in zip(r, f, strict=True))
        g_loss = of_g(None, f[0]) + 0.5 * of_g(None, f[1])
        osgan.backward(leaves, d_loss, g_loss, logits=(r, f) if logits else None)

    assert max(errors(networks, mine, of_both)) <= 1e-10
    if logits:
        torch.manual_seed(5)
        G, D = copy.deepcopy(networks)
        leaf = osgan.tap(G(z))
        r, f = D([real] * 2), D([leaf] * 2)
        with pytest.raises(NotExactError, match="2 logits a sample"):
            osgan.backward(leaf, sum(map(of_d, r, f)), of_g(None, f[0]) + of_g(None, f[1]), logits=(r, f))


class Scales(nn.Module):
    """Images at several scales to a logit for each image and scale (N, S), scales kept apart as by CAT's attention."""

    def __init__(self, leak=0.0):
        super().__init__()
        self.of_scale = nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * s * s, 5)) for s in (8, 4, 2)])
        self.shared = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
        self.leak = leak

    def forward(self, pyramid):
        tokens = torch.stack([embed(x) for embed, x in zip(self.of_scale, pyramid, strict=True)], 1)
        return self.shared(tokens + self.leak * tokens.mean(1, keepdim=True)).squeeze(-1)


def pyramid(x):
    return [x, *(nn.functional.avg_pool2d(x, k) for k in (2, 4))]


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_a_logit_for_each_image_and_scale(loss, as_list):
    real, z = make_real(), latents()
    of_d, of_g = TEXTBOOK[loss]
    split = (lambda s: list(s.unbind(1))) if as_list else (lambda s: s)

    def total(of, r, f):  # each scale its own weight
        return sum(w * of(a, b) for w, a, b in zip((1.0, 0.5, 2.0), r.unbind(1), f.unbind(1), strict=True))

    def of_both(G, D):
        fake = G(z)
        r = D(pyramid(real))
        return total(of_d, r, D(pyramid(fake.detach()))), total(of_g, r.detach(), D(pyramid(fake)))

    def mine(G, D):
        leaf = osgan.tap(pyramid(G(z)))
        r, f = D(pyramid(real)), D(leaf)
        parts = split(r), split(f)
        r, f = (torch.stack(s, 1) if as_list else s for s in parts)
        mine.did = osgan.backward(leaf, total(of_d, r, f), total(of_g, r, f), logits=parts)

    assert max(errors((Generator().double(), Scales().double()), mine, of_both)) <= 1e-10
    assert mine.did.passes == 1
    with pytest.raises(NotExactError, match="meets 3 logits"):
        mine(Generator().double(), Scales(leak=0.1).double())


class Featured(nn.Module):
    """Returns its logits (N, 1, 2, 2) and its features, as vocoders' Ds do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(CHANNELS, 8, 4, 2, 1), nn.Conv2d(8, 1, 3)

    def forward(self, x):
        features = nn.functional.leaky_relu(self.first(x), 0.2)
        return {"logits": self.second(features), "features": [features, x.mean(1)]}


def test_feature_matching():
    real, z = make_real(), latents()

    def matching(r, f):
        return sum((a.detach() - b).abs().mean() for a, b in zip(r["features"], f["features"], strict=True))

    def of_d(r, f):
        return (r["logits"] - 1).square().mean() + f["logits"].square().mean()

    def of_g(r, f, weight=2):
        return (f["logits"] - 1).square().mean() + weight * matching(r, f)

    def of_both(G, D):
        fake = G(z)
        r = D(real)
        return of_d(r, D(fake.detach())), of_g(r, D(fake)) + l1(fake, real)

    def mine(G, D, weight=2, **options):
        fake = G(z)
        leaf = osgan.tap(fake)
        r, f = D(real), D(leaf)
        logits = {"logits": (r["logits"], f["logits"])} if options else {}
        osgan.backward(leaf, of_d(r, f), of_g(r, f, weight), extra=l1(fake, real), **logits)

    networks = Generator().double(), Featured().double()
    assert max(errors(networks, mine, of_both)) <= 1e-10
    assert errors(networks, lambda G, D: mine(G, D, weight=1), of_both)[0] > 1e-3  # the reference feels it
    with pytest.raises(NotExactError, match="past the logits"):
        mine(*networks, one_pass=True)


def test_a_loss_of_ds_own_beside_the_logits():
    """As DMD2's denoising loss or a penalty on real images."""
    real, z = make_real(), latents()

    def own(D, fake, real):
        noisy = D[0](real + 0.1).square().mean() + D[0](fake.detach() - 0.1).abs().mean()
        images = real.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(D(images).sum(), images, create_graph=True)
        return noisy + gradient.square().sum((1, 2, 3)).mean()

    def of_both(G, D):
        d_loss, g_loss = plain("nonsaturating", real, z)(G, D)
        return d_loss + own(D, G(z), real), g_loss

    def mine(G, D, logits=True):
        fake = G(z)
        leaf = osgan.tap(fake)
        r, f = D(real), D(leaf)
        of_d, of_g = TEXTBOOK["nonsaturating"]
        d_loss = of_d(r, f) + own(D, leaf, real)
        osgan.backward(leaf, d_loss, of_g(r, f), logits=(r, f) if logits else None)

    networks = make_networks("none")
    assert max(errors(networks, mine, of_both)) <= 1e-10
    assert max(errors(networks, lambda G, D: mine(G, D, logits=False), of_both)) <= 1e-10


def test_any_nesting_of_fakes():
    z = latents()
    G, D = make_networks()
    fake = G(z)
    given = {"image": fake, "views": [fake.flip(-1), (fake * 0.5,)], "label": torch.arange(BATCH), "name": "x"}
    tapped = osgan.tap(given)
    assert tapped["label"] is given["label"]
    assert tapped["name"] == "x"
    assert isinstance(tapped["views"][1], tuple)
    leaves = [tapped["image"], tapped["views"][0], tapped["views"][1][0]]
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves)
    logits = D(torch.cat(leaves)).chunk(3)
    real = D(make_real())
    d_loss, g_loss = real.mean() - sum(x.square().mean() for x in logits), sum(x.exp().mean() for x in logits)
    osgan.backward(tapped, d_loss, g_loss, logits=([real], list(logits)))
    mine = [p.grad for p in G.parameters()]
    fake = G(z)
    reference = sum(D(x).exp().mean() for x in (fake, fake.flip(-1), fake * 0.5))
    assert relative_error(mine, torch.autograd.grad(reference, list(G.parameters()))) <= 1e-10


def test_images_that_are_the_weights_themselves():
    """Optimising images against D: there is no network behind the fakes."""
    D = make_discriminator().double()
    images = nn.Parameter(make_real())
    leaf = osgan.tap(images)
    r, f = D(make_real()), D(leaf)
    of_d, of_g = TEXTBOOK["nonsaturating"]
    osgan.backward(leaf, of_d(r, f), of_g(r, f), logits=(r, f))
    reference = torch.autograd.grad(of_g(None, D(images)), images)
    assert relative_error([images.grad], reference) <= 1e-10


@pytest.mark.parametrize("shift", [-100.0, -5.0, 5.0, 100.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_saturated_logits(loss, shift):
    """Where D's own derivative vanishes and G's does not, the carrier's floor keeps G's gradient."""
    real, z = make_real(), latents()
    networks = make_networks("none")
    with torch.no_grad():
        networks[1][-2].bias += shift
    mine = step(loss, real, z)
    of_both = plain(loss, real, z)
    d_loss, g_loss = of_both(*networks)
    for name, network, total in (("G", networks[0], g_loss), ("D", networks[1], d_loss)):
        gradient = torch.autograd.grad(total, list(network.parameters()), retain_graph=True)
        if not any(g.any() for g in gradient):
            pytest.skip(f"{name} has no gradient there: nothing to compare")
    assert max(errors(networks, mine, of_both)) <= 1e-9


def test_what_can_be_looked_at():
    real, z = make_real(), latents()
    networks = make_networks("none")
    mine = step("hinge", real, z)
    mine(*networks)
    assert mine.did.num_floored == 0
    assert [x.item() for x in mine.did.ratio_range] == [-1, -1]
    with torch.no_grad():
        networks[1][-2].bias -= 100
    mine(*networks)
    assert mine.did.num_floored == BATCH
    assert mine.did.ratio_range[0].item() == pytest.approx(-1e17)
    step_with_floor = step("hinge", real, z, floor=1e-3)
    step_with_floor(*networks)
    assert step_with_floor.did.ratio_range[0].item() == pytest.approx(-1e3)
    two = step("hinge", real, z, logits=False)
    two(*networks)
    assert two.did.num_floored is None
    assert two.did.ratio_range is None


CORRUPTIONS = {
    "the ratio is dropped": lambda carrier, ratio: (carrier, torch.ones_like(ratio)),
    "its sign is turned": lambda carrier, ratio: (carrier, -ratio),
    "it belongs to the neighbour": lambda carrier, ratio: (carrier, ratio.roll(1)),
    "the carrier is G's": lambda carrier, ratio: (carrier * ratio, torch.ones_like(ratio)),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_broken_ratio_is_seen(corrupt, monkeypatch):
    from osgan.decomposition import decompose

    monkeypatch.setattr("osgan.passes.decompose", lambda *given: corrupt(*decompose(*given)))
    real, z = make_real(), latents()
    assert max(errors(make_networks(), step("nonsaturating", real, z), plain("nonsaturating", real, z))) > 1e-3


def test_extra_counted_twice_or_left_out_is_seen():
    real, z = make_real(), latents()
    for extra in (lambda f, r: [l1(f, r), l1(f, r)], lambda f, r: ()):
        mine = step("hinge", real, z, extra=extra)
        assert errors(make_networks(), mine, plain("hinge", real, z, more=l1))[0] > 1e-2


def test_nothing_random_is_drawn_and_nothing_else_moves():
    real, z = make_real(), latents()
    G, D = make_networks("batch")
    state = torch.get_rng_state()
    weights = [p.detach().clone() for network in (G, D) for p in network.parameters()]
    step("wgan", real, z)(G, D)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, p) for a, p in zip(weights, (*G.parameters(), *D.parameters()), strict=True))
    assert D[3].num_batches_tracked == 2
