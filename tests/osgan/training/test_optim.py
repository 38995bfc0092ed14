import copy

import pytest
import torch
from torch import nn

import osgan
from osgan.errors import InputError
from osgan.training.optim import OptimisticAdam, OptimisticSGD, build_optimizer


def gradients(n, shape=(3, 2)):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(n)]


def run(optimizer, weight, grads):
    path = [weight.detach().clone()]
    for gradient in grads:
        weight.grad = gradient.clone()
        optimizer.step()
        path.append(weight.detach().clone())
    return path


def test_adam_with_its_state_there_from_the_start_is_adam():
    start = torch.randn(3, 2, dtype=torch.float64)
    mine, its = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = run(build_optimizer("adam", [mine], 1e-2, (0.5, 0.9)), mine, gradients(5))
    plain = run(torch.optim.Adam([its], 1e-2, (0.5, 0.9), fused=True), its, gradients(5))
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


def test_the_optimistic_update_is_that_of_the_paper():
    lr, beta1, beta2, eps = 1e-2, 0.5, 0.9, 1e-8
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    grads = gradients(6)
    w, m, v, before = weight.detach().clone(), 0, 0, 0
    expected = [w]
    for t, g in enumerate(grads, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        update = -lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
        w = w + 2 * update - before
        before = update
        expected.append(w)
    found = run(build_optimizer("optimistic_adam", [weight], lr, (beta1, beta2)), weight, grads)
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-12)


def test_a_weight_without_a_gradient_stays():
    moved, still = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = build_optimizer("optimistic_adam", [moved, still], 1e-2, (0.5, 0.9))
    optimizer.step()
    moved.grad = torch.ones(2)
    optimizer.step()
    assert not torch.equal(moved, torch.ones(2))
    assert torch.equal(still, torch.ones(2))


def test_the_state_is_saved_and_loaded():
    weight = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    optimizer = OptimisticAdam([weight], 1e-2)
    grads = gradients(6)
    run(optimizer, weight, grads[:3])
    other = nn.Parameter(weight.detach().clone())
    again = OptimisticAdam([other], 1e-2)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(run(optimizer, weight, grads[3:])[-1], run(again, other, grads[3:])[-1])


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(InputError, match=r"unknown optimizer 'adma'. Did you mean 'adam'\?"):
        build_optimizer("adma", [nn.Parameter(torch.ones(1))], 1e-2, (0.5, 0.9))


class Point(nn.Module):
    """A generator that puts all its images at one learnt point."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """A discriminator that is one slope."""

    def __init__(self):
        super().__init__()
        self.psi = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return (self.psi * x).flatten()


def dirac(scheme, optimizer, *, steps=500, **options):
    """Play the Dirac-GAN (Mescheder et al. 2018, section 2) from (1, 1); its solution is (0, 0)."""
    G, D = Point(), Slope()
    optimizers = [optimizer(network.parameters(), **options) for network in (G, D)]
    step = osgan.build_scheme(scheme, G, D, *optimizers, loss="minimax", latent=osgan.Gaussian(1))
    real = torch.zeros(2, 1, dtype=torch.float64)
    for _ in range(steps):
        step(real)
    return torch.cat([G.theta, D.psi]).norm().item()


def test_dirac_gan():
    start = 2**0.5
    assert dirac("one_stage", torch.optim.SGD, lr=0.1) > 1.5 * start  # away from the solution
    assert dirac("simultaneous", torch.optim.SGD, lr=0.1) > 1.5 * start
    assert dirac("two_stage_reused", torch.optim.SGD, lr=0.1) == pytest.approx(start, abs=0.05)  # round it
    assert dirac("one_stage", OptimisticSGD, lr=0.1) < start / 1.5  # to it
    assert dirac("one_stage", OptimisticSGD, lr=0.1, steps=5000) < 0.01
    assert dirac("one_stage", OptimisticAdam, lr=0.1, betas=(0.0, 0.999), eps=0.5) < start / 2


@pytest.mark.parametrize("name", ["adam", "optimistic_adam"])
def test_a_beta_may_be_a_whole_number(name):
    start = torch.randn(3, 2, dtype=torch.float64)
    whole, exact = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = run(build_optimizer(name, [whole], 1e-2, (0, 0.99)), whole, gradients(3))
    theirs = run(build_optimizer(name, [exact], 1e-2, (0.0, 0.99)), exact, gradients(3))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
