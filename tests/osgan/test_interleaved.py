"""One stage whose D moves within the batch: by plain autograd, on the bilinear game, and what it refuses."""

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
from osgan.interleaved import NAME
from osgan.regularizers import R1, R2

LR = 0.1


def by_hand(generator, discriminator, loss, moves, batches, labels, gammas=(0.0, 0.0)):
    """Take the steps with a backward pass for every gradient; `gammas` are those of R1 and R2."""
    of_discriminator, of_generator = TEXTBOOK[loss]
    of_d, of_g = list(discriminator.parameters()), list(generator.parameters())

    def move(weights, gradients):
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= LR * gradient

    for z, real in batches:
        fake = generator(z, *labels)
        total = [torch.zeros_like(weight) for weight in of_g]
        for images, fakes, *theirs in zip(
            real.chunk(moves), fake.chunk(moves), *(y.chunk(moves) for y in labels), strict=True
        ):
            real_logits = discriminator(images, *theirs).flatten()
            d_loss = of_discriminator(real_logits, discriminator(fakes.detach(), *theirs).flatten())
            for gamma, side in zip(gammas, (images, fakes), strict=True):
                at = side.detach().requires_grad_()
                (slope,) = torch.autograd.grad(discriminator(at, *theirs).sum(), at, create_graph=True)
                d_loss = d_loss + gamma / 2 * slope.square().sum() / len(images)
            g_loss = of_generator(real_logits.detach(), discriminator(fakes, *theirs).flatten())
            share = torch.autograd.grad(g_loss / moves, of_g, retain_graph=True)
            gradients = torch.autograd.grad(d_loss, of_d)
            total = [a + b for a, b in zip(total, share, strict=True)]
            move(of_d, gradients)
        move(of_g, total)


def errors(loss, *, moves=2, conditional=False, gammas=(0.0, 0.0), **options):
    networks = make_networks(conditional=conditional)
    labels = (make_labels(),) if conditional else ()
    scheme = make_scheme(NAME, *copy.deepcopy(networks), loss, lr=LR, moves=moves, **options)
    before = [[weight.detach().clone() for weight in network.parameters()] for network in networks]
    batches = []
    for seed in range(3):
        real = make_real()
        torch.manual_seed(seed)
        batches.append((scheme.latent(BATCH, real.device), real))
        torch.manual_seed(seed)
        scheme(real, *labels)
    by_hand(*networks, loss, moves, batches, labels, gammas)
    moved = zip((scheme.generator, scheme.discriminator), networks, before, strict=True)
    return [
        relative_error(*([now - then for now, then in zip(n.parameters(), start, strict=True)] for n in (mine, its)))
        for mine, its, start in moved
    ]


@pytest.mark.parametrize("loss", LOSSES)
def test_three_steps_are_those_of_a_backward_pass_a_gradient(loss):
    assert max(errors(loss)) <= 1e-10


@pytest.mark.parametrize("moves", [1, 3, BATCH])
@pytest.mark.parametrize("conditional", [False, True])
def test_as_often_as_it_is_asked_to(moves, conditional):
    assert max(errors("hinge", moves=moves, conditional=conditional)) <= 1e-10


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
    moves = options.get("moves", 1)
    scheme = make_scheme(name, generator, discriminator, "wgan", lr=LR, **options)
    scheme.discriminator_optimizer.param_groups[0]["lr"] = LR / moves
    balanced = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(4).view(-1, 1, 1, 1)
    for _ in range(steps):
        scheme(balanced)
    return float((generator.place**2 + discriminator.slope**2).detach().sqrt() / 2**0.5)


def test_on_the_bilinear_game_it_spirals_less_the_more_often_d_moves():
    found = [radius(NAME, moves=moves) for moves in (1, 2, 4)]
    # A step has the determinant 1 + lr^2 (moves + 1) / (2 moves): alternating descent has 1
    expected = [(1 + LR**2 * (moves + 1) / (2 * moves)) ** 150 for moves in (1, 2, 4)]
    assert found == pytest.approx(expected, rel=0.05)
    assert found[0] == pytest.approx(radius("one_stage"))
    assert found[0] > found[1] > found[2] > 1.1 > radius("two_stage_reused")


def test_the_work_is_that_of_one_stage():
    counted = []
    for name in ("one_stage", NAME):
        scheme = make_scheme(name, *make_networks(), "nonsaturating")
        scheme.prepare(make_real())
        with FlopCounterMode(display=False) as counter:
            scheme(make_real())
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize("moves", [0, 1.5, "two"])
def test_a_number_of_moves_that_is_none_is_refused(moves):
    with pytest.raises(InputError, match="moves must be a whole number from 1"):
        make_scheme(NAME, *make_networks(), "hinge", moves=moves)


def test_it_has_parts_of_its_own():
    with pytest.raises(InputError, match=r"one_stage_interleaved moves D after every part .*: accumulate has to be 1"):
        make_scheme(NAME, *make_networks(), "hinge", accumulate=2)


def test_a_batch_without_equal_parts_is_refused_before_anything_moves():
    scheme = make_scheme(NAME, *make_networks(), "hinge", lr=LR)
    before = [weight.detach().clone() for weight in scheme.discriminator.parameters()]
    with pytest.raises(InputError, match="moves=2 takes a batch in 2 equal parts: 5 images are no multiple of 2"):
        scheme(make_real(batch=5))
    assert all(map(torch.equal, before, scheme.discriminator.parameters()))


def test_it_refuses_what_one_stage_refuses():
    generator, _ = make_networks()
    scheme = make_scheme(NAME, generator, make_discriminator("batch").double(), "nonsaturating")
    with pytest.raises(NotExactError, match="one-stage training is not exact here"):
        scheme(make_real())


def test_ada_sees_as_many_images_between_its_moves():
    ada = osgan.ADA(interval=2, images=100)
    scheme = make_scheme(NAME, *make_networks(dtype=torch.float32), "nonsaturating", augmentation=ada)
    for step in range(4):
        scheme(make_real(torch.float32))
        assert float(ada.sums[3]) == (2 * (step + 1)) % 4
