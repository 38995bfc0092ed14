"""What osgan.tap and osgan.backward refuse, and what they find out of D as training goes on."""

import copy

import pytest
import torch
from reference import (
    ASYMMETRIC,
    CHANNELS,
    TEXTBOOK,
    Generator,
    make_discriminator,
    make_networks,
    make_real,
)
from test_passes import latents, step
from torch import nn

import osgan
from osgan.errors import InputError, NotExactError

of_d, of_g = TEXTBOOK["nonsaturating"]


@pytest.fixture
def players():
    return make_networks("group")


def untouched(*networks):
    return all(p.grad is None for network in networks for p in network.parameters())


def l1(fake, real):
    return (fake - real).abs().mean()


WRONG = {
    "d_loss reaches the generator": lambda D, fake, leaf, real: (of_d(D(real), D(fake)), of_g(None, D(leaf)), ()),
    "call D on the leaf that osgan.tap returned": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        of_g(None, D(fake)),
        (),
    ),
    "g_loss does not depend on leaf 0": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        of_g(None, D(leaf.detach())),
        (),
    ),
    "g_loss reaches the generator past D": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        of_g(None, D(leaf)) + l1(fake, real),
        (),
    ),
    "extra goes through D, or is computed from the leaf": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        of_g(None, D(leaf)),
        l1(leaf, real),
    ),
    "extra reaches weights of D": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        of_g(None, D(leaf)),
        D(fake).mean(),
    ),
    "extra goes through D": lambda D, fake, leaf, real: (of_d(D(real), D(leaf)), of_g(None, D(leaf)), D(leaf).mean()),
    "d_loss must be a scalar": lambda D, fake, leaf, real: (D(leaf), of_g(None, D(leaf)), ()),
    "g_loss must be a scalar tensor, what the player minimises, got float": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        0.5,
        (),
    ),
    "d_loss carries no gradient": lambda D, fake, leaf, real: (D(leaf).mean().detach(), of_g(None, D(leaf)), ()),
    "extra carries no gradient": lambda D, fake, leaf, real: (
        of_d(D(real), D(leaf)),
        of_g(None, D(leaf)),
        l1(fake, real).detach(),
    ),
}


@pytest.mark.parametrize(("said", "wire"), WRONG.items(), ids=WRONG)
def test_wrong_wiring_is_refused_before_anything_is_added(said, wire, players):
    G, D = players
    fake = G(latents())
    leaf = osgan.tap(fake)
    d_loss, g_loss, extra = wire(D, fake, leaf, make_real())
    with pytest.raises(InputError, match=said):
        osgan.backward(leaf, d_loss, g_loss, extra=extra)
    assert untouched(G, D)


def test_a_generators_weight_in_ds_loss_is_refused(players):
    """D is given features of the generator's that were not detached."""
    G, D = players
    fake = G(latents())
    leaf = osgan.tap(fake)
    conditioned = D(leaf) * G.layers[0].bias.sum()
    with pytest.raises(InputError, match=r"d_loss reaches the generator.*weight \(8,\)"):
        osgan.backward(leaf, of_d(D(make_real()), conditioned), of_g(None, D(leaf)))


def test_images_that_a_penalty_differentiates_by_are_no_weights():
    """An autoencoder's input is a real image: a penalty asks for its gradient, and it is in both players' graphs."""
    G, D = nn.Conv2d(CHANNELS, CHANNELS, 1).double(), make_discriminator().double()
    real = make_real().requires_grad_()
    leaf = osgan.tap(fake := G(real))
    r, f = D(real), D(leaf)
    (gradient,) = torch.autograd.grad(r.sum(), real, create_graph=True)
    osgan.backward(leaf, of_d(r, f) + gradient.square().mean(), of_g(r, f), extra=l1(fake, real), logits=(r, f))
    assert not untouched(G)


@pytest.mark.parametrize("nothing", [None, 3.0, [], torch.zeros(3)])
def test_nothing_to_tap(nothing):
    with pytest.raises(InputError, match="nothing that carries a gradient"):
        osgan.tap(nothing)


def test_fakes_without_a_graph(players):
    with torch.no_grad():
        fake = players[0](latents())
    with pytest.raises(InputError, match=r"outside torch.no_grad"):
        osgan.tap(fake)


def test_leaves_of_others(players):
    G, D = players
    fake = G(latents())
    leaf = fake.detach().requires_grad_()
    with pytest.raises(InputError, match=r"does not come from osgan.tap"):
        osgan.backward(leaf, D(leaf).mean(), D(leaf).mean())
    with pytest.raises(InputError, match="leaf must be what"):
        osgan.backward(None, D(leaf).mean(), D(leaf).mean())


def test_a_leaf_goes_backward_once(players):
    G, D = players
    leaf = osgan.tap(G(latents()))
    f = D(leaf)
    osgan.backward(leaf, f.mean(), -f.mean(), logits=((), f))
    with pytest.raises(InputError, match="has gone backward already"):
        osgan.backward(leaf, f.mean(), -f.mean(), logits=((), f))


BAD_LOGITS = {
    "must be the pair": lambda r, f, D, leaf: f,
    "must be the pair ": lambda r, f, D, leaf: (r, f, f),
    "no output of D on the leaf": lambda r, f, D, leaf: (r, None),
    "not computed from the fake logits": lambda r, f, D, leaf: ([r, f], D(leaf)),
    "depends on the leaf past the logits": lambda r, f, D, leaf: (r, f * 1),
}


@pytest.mark.parametrize(("said", "of"), BAD_LOGITS.items(), ids=BAD_LOGITS)
def test_logits_that_the_losses_are_not_computed_from(said, of, players):
    G, D = players
    leaf = osgan.tap(G(latents()))
    r, f = D(make_real()), D(leaf)
    with pytest.raises(InputError, match=said.strip()):
        osgan.backward(leaf, of_d(r, f), of_g(r, f), logits=of(r, f, D, leaf))
    assert untouched(G, D)


def test_a_joint_batch_taken_apart_after_the_loss(players):
    G, D = players
    leaf = osgan.tap(G(latents()))
    both = D(torch.cat([make_real(), leaf]))
    targets = torch.cat([torch.ones(6), torch.zeros(6)]).double()
    d_loss = nn.functional.binary_cross_entropy_with_logits(both, targets)
    r, f = both.chunk(2)
    with pytest.raises(NotExactError, match="taken apart after the loss"):
        osgan.backward(leaf, d_loss, of_g(r, f), logits=(r, f))


def test_float16_logits(players):
    G, D = players
    leaf = osgan.tap(G(latents()))
    r, f = D(make_real()).half(), D(leaf).half()
    with pytest.raises(InputError, match="float16"):
        osgan.backward(leaf, of_d(r, f), of_g(r, f), logits=(r, f))


class Half(nn.Module):
    """Computes in float16 and returns float32, as under autocast."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers.half()

    def forward(self, x):
        return self.layers(x.half()).float()


def test_a_floor_that_float16_loses_on_the_way():
    G = Generator()
    D = Half(nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)))
    real = make_real(torch.float32)
    with pytest.raises(NotExactError, match="does not come back through D in proportion"):
        step("hinge", real, latents(torch.float32))(G, D)
    mine = step("hinge", real, latents(torch.float32), floor=1e-3)
    mine(G, D)
    assert mine.did.passes == 1


@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_a_mode_that_changes(loss):
    """In evaluation mode BatchNorm keeps samples apart; in training mode it does not."""
    G, D = make_networks("batch")
    D.eval()
    mine = step(loss, make_real(), latents())
    for _ in range(5):
        mine(G, D)
    D.train()
    before = [p.grad.clone() for p in D.parameters()]
    with pytest.raises(NotExactError, match="mixes samples"):
        mine(G, D)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, D.parameters(), strict=True))


class Switch(nn.Module):
    def __init__(self, share=0.0):
        super().__init__()
        self.on, self.share = False, share

    def forward(self, x):
        mixes = self.on or torch.rand(()) < self.share
        return 0.5 * x + 0.5 * x.flip(0) if mixes else x


def test_a_layer_that_is_switched_on():
    G, D = make_networks("group")
    D.insert(1, switch := Switch())
    mine = step("hinge", make_real(), latents())
    for _ in range(5):
        mine(G, D)
    switch.on = True
    with pytest.raises(NotExactError, match="mixes samples"):
        mine(G, D)


def test_a_layer_that_mixes_now_and_then():
    G, D = make_networks("group")
    D.insert(1, Switch(share=0.3))
    mine = step("hinge", make_real(), latents())

    def train():
        for _ in range(30):
            mine(G, D)

    with pytest.raises(NotExactError, match="mixes samples"):
        train()


def test_a_mix_whose_gain_starts_at_zero():
    """The first step is exact; the second, after which the gain has moved, is looked at again."""
    G, D = make_networks("whisper")
    mine = step("hinge", make_real(), latents())
    mine(G, D)
    with torch.no_grad():
        D[3].gain += 0.1
    with pytest.raises(NotExactError, match="mixes samples"):
        mine(G, D)


def test_a_head_that_starts_at_zero():
    """No gradient reaches the fakes then, and nothing can be told of D until it has moved."""
    G, D = make_networks("group")
    nn.init.zeros_(D[-2].weight)
    mine = step("nonsaturating", make_real(), latents())
    mine(G, D)
    assert not any(p.grad.any() for p in G.parameters())
    assert D[-2].weight.grad.any()
    G, D = make_networks("batch")
    head = D[-2].weight.detach().clone()
    nn.init.zeros_(D[-2].weight)
    mine(G, D)
    with torch.no_grad():
        D[-2].weight.copy_(head)
    with pytest.raises(NotExactError, match="mixes samples"):
        mine(G, D)


def test_measured_now_and_then_and_not_at_every_step(monkeypatch):
    from osgan import exactness

    G, D = make_networks("group")
    measured, taken = [], []
    measure = exactness._measure
    monkeypatch.setattr(exactness, "_measure", lambda *given: measured.append(len(taken)) or measure(*given))
    mine = step("hinge", make_real(), latents())
    for number in range(40):
        mine(G, D)
        taken.append(number)
    assert measured == [0, 1, 2, 4, 8, 16, 32]
    measured.clear()
    step("hinge", make_real(), latents(), check=False)(G, D)
    assert measured == []
    step("hinge", make_real(), latents(), check=True)(G, D)
    assert len(measured) == 1


def test_other_networks_are_measured_on_their_own():
    """Two Ds of the same layers, one of which mixes samples: what is known of the one says nothing of the other."""

    class Mean(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.dim = dim

        def forward(self, x):
            return x + x.mean(self.dim, keepdim=True)

    G, D = make_networks("group")
    apart, mixing = copy.deepcopy(D), copy.deepcopy(D)
    apart.insert(1, Mean(1))
    mixing.insert(1, Mean(0))
    mine = step("hinge", make_real(), latents())
    for _ in range(3):
        mine(G, apart)
    with pytest.raises(NotExactError, match="mixes samples"):
        mine(G, mixing)


def test_a_frozen_d_is_named(players):
    G, D = players
    D.requires_grad_(False)
    with pytest.raises(InputError, match="D is frozen"):
        step("hinge", make_real(), latents(), logits=False)(G, D)


@pytest.mark.parametrize("logits", [False, True])
def test_what_went_backward_to_the_leaf_before_is_not_taken_for_ds(players, logits):
    """A penalty on the leaf that the loop sends back itself."""
    reference = copy.deepcopy(players)
    step("hinge", make_real(), latents(), logits=logits)(*reference)
    torch.manual_seed(0)
    G, D = players
    real = make_real()
    leaf = osgan.tap(G(latents()))
    D(leaf).square().mean().backward()
    D.zero_grad()
    r, f = D(real), D(leaf)
    hinge = TEXTBOOK["hinge"]
    osgan.backward(leaf, hinge[0](r, f), hinge[1](r, f), logits=(r, f) if logits else None)
    for mine, theirs in zip(G.parameters(), reference[0].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_diverged_logits_are_no_false_refusal(players):
    G, D = players
    mine = step("hinge", make_real(), latents())
    mine(G, D)
    with torch.no_grad():
        D[0].weight.mul_(float("nan"))
    mine(G, D)  # NaN, as plain autograd gives it
    assert torch.isnan(G.layers[0].weight.grad).any()


def test_a_mask_is_no_constant_ratio():
    """Hinge by a mask: analytic to the last node, and yet another loss for the next batch."""
    G, D = make_networks("batch")
    leaf = osgan.tap(G(latents()))
    r, f = D(make_real()), D(leaf)
    d_loss = ((1 + f) * (f > -1)).mean() + ((1 - r) * (r < 1)).mean()
    with pytest.raises(NotExactError, match="Mul by a tensor"):
        osgan.backward(leaf, d_loss, -f.mean(), logits=(r, f))


def test_equal_logits_are_no_constant_ratio():
    """All logits 0: the non-saturating ratio is -1 there, and nowhere else."""
    G, D = make_networks("batch")
    nn.init.zeros_(D[-2].weight)
    nn.init.zeros_(D[-2].bias)
    D[-2].weight.data[:, 0] += 1e-30  # so small that no logit shows it, and a gradient still flows
    with pytest.raises(NotExactError, match="no constant multiple"):
        step("nonsaturating", make_real(), latents())(G, D)
