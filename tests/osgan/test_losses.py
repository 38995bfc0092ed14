import pytest
import torch
from reference import LOSSES, SYMMETRIC, TEXTBOOK, as_custom

import osgan
from osgan import losses

PAIRED = ("rpgan", "ragan")


def logits(low=-6.0, high=6.0, count=97):
    real = torch.linspace(low, high, count, dtype=torch.float64)
    return real, real[torch.randperm(count)].clone()


@pytest.fixture(params=LOSSES)
def loss(request):
    return losses.LOSSES[request.param]


def test_there_are_these_losses():
    assert set(losses.LOSSES) == set(LOSSES)
    assert all(osgan.losses.as_loss(name) is found for name, found in losses.LOSSES.items())


def test_losses_are_the_textbooks(loss):
    real, fake = logits(-30, 30)
    for mine, textbook in zip((loss.discriminator, loss.generator), TEXTBOOK[loss.name], strict=True):
        per_sample = mine(real, fake)
        assert per_sample.dtype == torch.float64
        assert per_sample.shape == real.shape
        torch.testing.assert_close(per_sample.mean(), textbook(real, fake), rtol=1e-12, atol=1e-12)


def test_derivatives_are_those_of_autograd(loss):
    real, fake = logits()
    found = loss.gradients(real, fake)
    real.requires_grad_()
    fake.requires_grad_()
    of_d = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake))
    (of_g,) = torch.autograd.grad(loss.generator(real, fake).sum(), fake)
    for mine, autograd in zip(found, (*of_d, of_g), strict=True):
        assert mine.dtype == torch.float64
        torch.testing.assert_close(mine, autograd, rtol=1e-12, atol=1e-12)


def test_a_custom_loss_without_derivatives_gives_the_same(loss):
    real, fake = logits()
    custom = as_custom(loss.name)
    assert custom.derivatives is None
    with torch.no_grad():  # as inside a step
        mine = custom.gradients(real, fake)
    for autograd, closed in zip(mine, loss.gradients(real, fake), strict=True):
        assert not autograd.requires_grad
        torch.testing.assert_close(autograd, closed, rtol=1e-12, atol=1e-12)
    assert not real.requires_grad
    assert not fake.requires_grad


def test_symmetric_is_claimed_where_it_is_true(loss):
    gradients = loss.gradients(*logits())
    opposite = torch.allclose(gradients.generator, -gradients.fake, rtol=1e-12, atol=1e-12)
    assert opposite == loss.symmetric == (loss.name in SYMMETRIC)


def test_paired_is_claimed_where_it_is_true(loss):
    real, fake = logits()
    reads_the_reals = not torch.equal(loss.generator(real, fake), loss.generator(real + 1, fake))
    assert reads_the_reals == loss.paired == (loss.name in PAIRED)


def test_a_sample_depends_on_its_own_pair_alone_but_for_the_relativistic_average(loss):
    real, fake = logits()
    moved = real.clone(), fake.clone()
    moved[0][0] += 1
    moved[1][0] += 1
    gradients = zip(loss.gradients(real, fake), loss.gradients(*moved), strict=True)
    alone = [torch.equal(after[1:], before[1:]) for before, after in gradients]
    assert alone == [loss.name != "ragan"] * 3


def test_an_unknown_loss_is_refused_with_the_nearest():
    with pytest.raises(osgan.InputError, match=r"unknown loss 'hinje'\. Did you mean 'hinge'\?.*lsgan.*wgan"):
        losses.as_loss("hinje")
