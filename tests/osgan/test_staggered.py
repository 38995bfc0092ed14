"""One stage whose updates are half a batch apart: by plain autograd, on the bilinear game, and what it refuses."""

import copy

import pytest
import torch
from reference import (
    BATCH,
    LOSSES,
    TEXTBOOK,
    make_discriminator,
    make_labels,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import osgan
from osgan.errors import InputError, NotExactError
from osgan.regularizers import R1, R2
from osgan.staggered import FRESH, NAME

LR = 0.1


def by_hand(generator, discriminator, loss, fresh, batches, labels, gammas=(0.0, 0.0)):
    """Take the steps with a backward pass for every gradient; `gammas` are those of R1 and R2."""
    of_discriminator, of_generator = TEXTBOOK[loss]
    of_d, of_g = list(discriminator.parameters()), list(generator.parameters())
    kept = [torch.zeros_like(weight) for weight in of_d]

    def move(weights, gradients):
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= LR * gradient

    def both(real, fake, theirs):
        real_logits = discriminator(real, *theirs).flatten()
        d_loss = of_discriminator(real_logits, discriminator(fake.detach(), *theirs).flatten())
        for gamma, images in zip(gammas, (real, fake), strict=True):
            at = images.detach().requires_grad_()
            (slope,) = torch.autograd.grad(discriminator(at, *theirs).sum(), at, create_graph=True)
            d_loss = d_loss + gamma / 2 * slope.square().sum() / len(real)
        d_gradients = torch.autograd.grad(d_loss, of_d, retain_graph=True)
        g_loss = of_generator(real_logits.detach(), discriminator(fake, *theirs).flatten())
        return d_gradients, torch.autograd.grad(g_loss, of_g, retain_graph=True)

    for z, real in batches:
        fake = generator(z, *labels)
        halves = zip(real.chunk(2), fake.chunk(2), *(y.chunk(2) for y in labels), strict=True)
        (real_1, fake_1, *labels_1), (real_2, fake_2, *labels_2) = halves
        d_1, g_1 = both(real_1, fake_1, labels_1)
        move(of_d, [fresh * new + (1 - fresh) * old for new, old in zip(d_1, kept, strict=True)])
        kept, g_2 = both(real_2, fake_2, labels_2)
        move(of_g, [fresh * new + (1 - fresh) * old for new, old in zip(g_2, g_1, strict=True)])


def errors(loss, *, fresh=FRESH, conditional=False, gammas=(0.0, 0.0), **options):
    networks = make_networks(conditional=conditional)
    labels = (make_labels(),) if conditional else ()
    scheme = make_scheme(NAME, *copy.deepcopy(networks), loss, lr=LR, fresh=fresh, **options)
    before = [[weight.detach().clone() for weight in network.parameters()] for network in networks]
    batches = []
    for seed in range(3):
        real = make_real()
        torch.manual_seed(seed)
        batches.append((scheme.latent(BATCH, real.device), real))
        torch.manual_seed(seed)
        scheme(real, *labels)
    by_hand(*networks, loss, fresh, batches, labels, gammas)
    moved = zip((scheme.generator, scheme.discriminator), networks, before, strict=True)
    return [
        relative_error(*([now - then for now, then in zip(n.parameters(), start, strict=True)] for n in (mine, its)))
        for mine, its, start in moved
    ]


@pytest.mark.parametrize("loss", LOSSES)
def test_three_steps_are_those_of_a_backward_pass_a_gradient(loss):
    assert max(errors(loss)) <= 1e-10


@pytest.mark.parametrize("fresh", [0.5, 1.0])
@pytest.mark.parametrize("conditional", [False, True])
def test_whatever_counts_as_fresh(fresh, conditional):
    assert max(errors("hinge", fresh=fresh, conditional=conditional)) <= 1e-10


@pytest.mark.parametrize("gammas", [(0.7, 0.0), (0.7, 1.3)])
@pytest.mark.parametrize("loss", ["nonsaturating", "rpgan"])
def test_with_penalties(loss, gammas):
    regularizers = [kind(gamma) for kind, gamma in zip((R1, R2), gammas, strict=True) if gamma]
    assert max(errors(loss, gammas=gammas, regularizers=regularizers)) <= 1e-10


class Point(nn.Module):
    """Latents -> images of one number, in turn 2 below and 2 above a place."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, z):
        return (self.place + torch.tensor([-2.0, 2.0]).repeat(len(z) // 2)).view(-1, 1, 1, 1)


class Slope(nn.Module):
    """Images of one number -> logits proportional to it."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.slope * x.flatten()


def radius(name, steps=300, **options):
    """Return how far from the solution a scheme ends on min max of slope * place, by how far it began."""
    generator, discriminator = Point(), Slope()
    scheme = make_scheme(name, generator, discriminator, "wgan", lr=LR, **options)
    balanced = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(2).view(-1, 1, 1, 1)
    for _ in range(steps):
        scheme(balanced)
    return float((generator.place**2 + discriminator.slope**2).detach().sqrt() / 2**0.5)


def growth(fresh, steps=300):
    """Return the modulus of the recurrence's eigenvalue, to the power of the steps."""
    # slope: (r - 1) y = -lr (fresh + stale / r) x; place: (r - 1) x = lr (stale + fresh r) y
    stale, square = 1 - fresh, LR**2
    polynomial = [1, square * fresh**2 - 2, 1 + 2 * square * fresh * stale, square * stale**2]
    matrix = torch.zeros(3, 3, dtype=torch.float64)
    matrix[0] = -torch.tensor(polynomial[1:], dtype=torch.float64)
    matrix[1, 0] = matrix[2, 1] = 1
    return float(torch.linalg.eigvals(matrix).abs().max()) ** steps


def test_on_the_bilinear_game_it_spirals_less():
    plain, alternating = radius("one_stage"), radius("two_stage_reused")
    assert plain == pytest.approx((1 + LR**2) ** 150, rel=1e-6)
    assert alternating < 1.1
    assert radius(NAME, fresh=1.0) < 1.1
    found = [radius(NAME, fresh=fresh) for fresh in (0.5, FRESH, 0.9)]
    assert plain > found[1] > found[2] > alternating
    # up to the phase of the turn at which it ends
    assert found == pytest.approx([growth(fresh) for fresh in (0.5, FRESH, 0.9)], rel=0.1)


def test_the_work_is_that_of_one_stage():
    counted = []
    for name in ("one_stage", NAME):
        scheme = make_scheme(name, *make_networks(), "nonsaturating")
        scheme.prepare(make_real())
        with FlopCounterMode(display=False) as counter:
            scheme(make_real())
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


def test_what_is_kept_is_a_tensor_of_its_state_and_begins_at_zero():
    scheme = make_scheme(NAME, *make_networks(), "nonsaturating")
    assert scheme.tensors() == scheme.kept
    assert not any(tensor.any() for tensor in scheme.kept)
    scheme(make_real())
    assert all(tensor.any() for tensor in scheme.kept)


def test_a_weight_that_is_frozen_on_the_way_stays():
    scheme = make_scheme(NAME, *make_networks(), "nonsaturating", lr=LR)
    scheme(make_real())
    first = next(scheme.discriminator.parameters()).requires_grad_(False)
    before = first.detach().clone()
    scheme(make_real())
    assert torch.equal(first, before)


@pytest.mark.parametrize("fresh", [0.49, 1.1, "half", float("nan")])
def test_a_share_that_is_none_is_refused(fresh):
    with pytest.raises(InputError, match=r"fresh must be from 0\.5 to 1"):
        make_scheme(NAME, *make_networks(), "hinge", fresh=fresh)


def test_it_has_parts_of_its_own():
    with pytest.raises(InputError, match=r"one_stage_staggered takes a batch in halves .*: accumulate has to be 1"):
        make_scheme(NAME, *make_networks(), "hinge", accumulate=2)


def test_an_odd_batch_is_refused_before_anything_moves():
    scheme = make_scheme(NAME, *make_networks(), "hinge", lr=LR)
    before = [weight.detach().clone() for weight in scheme.discriminator.parameters()]
    with pytest.raises(
        InputError, match="one_stage_staggered takes a batch in 2 equal parts: 5 images are no multiple"
    ):
        scheme(make_real(batch=5))
    assert all(map(torch.equal, before, scheme.discriminator.parameters()))


def test_it_refuses_what_one_stage_refuses():
    generator, _ = make_networks()
    scheme = make_scheme(NAME, generator, make_discriminator("batch").double(), "nonsaturating")
    with pytest.raises(NotExactError, match="one-stage training is not exact here"):
        scheme(make_real())


def test_ada_counts_updates_and_not_halves():
    ada = osgan.ADA(interval=2, images=100)
    scheme = make_scheme(NAME, *make_networks(dtype=torch.float32), "nonsaturating", augmentation=ada)
    for step in range(4):
        scheme(make_real(torch.float32))
        assert float(ada.sums[3]) == (2 * (step + 1)) % 4
