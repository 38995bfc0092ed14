"""CAT: several drafts of an image, a D in which no scale sees another, and one backward pass for all of them."""

import copy

import pytest
import torch
from reference import TEXTBOOK, relative_error
from torch.nn.functional import avg_pool2d

import osgan
from osgan import nets
from osgan.nets.cat import CATDiscriminator, cat
from osgan.nets.transformer import Attention
from osgan.regularizers.consistency import consistency

SCALES = 3
N = 4
TINY = "cat32+resolution=16+width=12+depth=4+heads=3+patch_size=2+latent_dim=5"


def build(options=""):
    built = nets.build(TINY + options, channels=2)
    assert built.num_classes is None
    return built.generator.double(), built.discriminator.double()


def latents():
    return torch.randn(N, 5, dtype=torch.float64)


def images(*more):
    return torch.rand(N, *more, 2, 16, 16, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("scales", [2, 3, 4])
def test_drafts_in_training_and_the_last_of_them_in_evaluation(scales):
    generator, discriminator = build(f"+scales={scales}")
    z = latents()
    drafts = generator(z)
    assert drafts.shape == (N, scales, 2, 16, 16)
    assert drafts.abs().max() < 1
    assert torch.equal(generator.eval()(z), drafts[:, -1])
    logits = discriminator(drafts)
    assert logits.shape == (N, scales)
    assert logits.dtype == torch.float64
    assert len(logits.detach().unique()) == N * scales


def test_drafts_are_sums_over_shares_of_the_blocks():
    generator, _ = build()
    assert [len(stage) for stage in generator.stages] == [1, 1, 2]
    added = []
    for to_image in generator.to_images:
        to_image.register_forward_hook(lambda _, given, result: added.append(result))
    drafts = generator(latents())
    expected = torch.stack(added, dim=1).cumsum(dim=1).tanh()
    torch.testing.assert_close(drafts, expected, rtol=1e-10, atol=1e-10)


def elsewhere(discriminator):
    """Return the largest derivative of a logit by an image that it is not of, and the smallest by its own."""
    given = images(SCALES).requires_grad_()
    logits = discriminator(given)
    others, own = 0.0, float("inf")
    for n in range(N):
        for scale in range(SCALES):
            (gradient,) = torch.autograd.grad(logits[n, scale], given, retain_graph=True)
            own = min(own, gradient[n, scale].abs().max().item())
            gradient[n, scale] = 0
            others = max(others, gradient.abs().max().item())
    return others, own


@pytest.mark.parametrize("options", ["", "+checkpoint=True"])
def test_a_logit_depends_on_its_own_image_alone(options, monkeypatch):
    _, discriminator = build(options)
    others, own = elsewhere(discriminator)
    assert others == 0
    assert own > 1e-6
    attend = Attention.forward
    monkeypatch.setattr(Attention, "forward", lambda self, x, segments=(): attend(self, x))  # without the segments
    assert elsewhere(discriminator)[0] > 1e-6


def test_each_scale_is_seen_at_its_own_resolution():
    _, discriminator = build()
    given = images(SCALES)
    fine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).repeat(8, 8) / 4
    moved = (discriminator(given + fine) - discriminator(given)).abs().amax(0)
    assert moved[:2].max() < 1e-12  # squares of 2x2 pixels have the same mean
    assert moved[2] > 1e-4
    coarse = fine.repeat_interleave(2, 0).repeat_interleave(2, 1)[:16, :16]
    moved = (discriminator(given + coarse) - discriminator(given)).abs().amax(0)
    assert moved[0] < 1e-12
    assert moved[1:].min() > 1e-4
    assert [p.weight.shape[0] for p in discriminator.positions] == [4, 16, 64]


def test_one_image_is_scored_at_every_scale():
    _, discriminator = build()
    real = images()
    expected = discriminator(torch.stack([real] * SCALES, dim=1))
    torch.testing.assert_close(discriminator(real), expected, rtol=1e-10, atol=1e-10)


def test_the_wrong_number_of_scales_is_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        build()[1](images(2))


def test_consistency_is_the_mean_squared_difference_at_each_drafts_resolution():
    drafts = images(SCALES).requires_grad_()
    loss = consistency(drafts)
    quarter, half = (
        (avg_pool2d(drafts[:, s], k) - avg_pool2d(drafts[:, -1], k)).square().mean() for s, k in ((0, 4), (1, 2))
    )
    torch.testing.assert_close(loss, (quarter + half) / 2, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(loss, drafts)
    assert not gradient[:, -1].any()
    assert gradient[:, :-1].abs().amax((0, 2, 3, 4)).min() > 0
    assert consistency(drafts[:, :1].expand(-1, SCALES, -1, -1, -1)) == 0
    with pytest.raises(osgan.InputError, match="two scales or more"):
        consistency(drafts[:, :1])


def losses(loss, real_logits, fake_logits):
    of_d, of_g = TEXTBOOK[loss]
    return of_d(real_logits, fake_logits), of_g(real_logits.detach(), fake_logits)


def one_pass(generator, discriminator, real, z, loss):
    fakes = generator(z).unbind(1)
    leaves = [osgan.tap(fake) for fake in fakes]
    real_logits, fake_logits = discriminator(real), discriminator(torch.stack(leaves, dim=1))
    d_loss, g_loss = losses(loss, real_logits, fake_logits)
    extra = 3 * consistency(torch.stack(fakes, dim=1))
    return osgan.backward(leaves, d_loss, g_loss, extra=extra, logits=(real_logits, fake_logits))


def two_gradients(generator, discriminator, real, z, loss):
    fakes = generator(z)
    d_loss, _ = losses(loss, discriminator(real), discriminator(fakes.detach()))
    of_d = torch.autograd.grad(d_loss, list(discriminator.parameters()))
    _, g_loss = losses(loss, discriminator(real), discriminator(fakes))
    return torch.autograd.grad(g_loss + 3 * consistency(fakes), list(generator.parameters())), of_d


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "rpgan"])
@pytest.mark.parametrize("options", ["", "+checkpoint=True"])
def test_one_backward_pass_serves_all_scales_and_both_players(options, loss):
    networks = build(options)
    real, z = images(), latents()
    expected = two_gradients(*networks, real, z, loss)
    result = one_pass(*networks, real, z, loss)
    assert result.passes == 1
    assert result.ratios[0].shape == (N, SCALES)
    for network, reference in zip(networks, expected, strict=True):
        assert relative_error([p.grad for p in network.parameters()], reference) <= 1e-10


def test_a_d_that_mixes_scales_is_refused(monkeypatch):
    attend = Attention.forward
    monkeypatch.setattr(Attention, "forward", lambda self, x, segments=(): attend(self, x))
    with pytest.raises(osgan.errors.NotExactError, match="leaf 0 meets 3 logits a sample"):
        one_pass(*build(), images(), latents(), "rpgan")


def test_verify_of_a_step_says_exact():
    networks = build()
    real, z = images(), latents()
    result = osgan.verify(*networks, step=lambda: one_pass(*networks, real, z, "rpgan"))
    assert result.exact, result.reason


def test_nothing_waits_for_the_device():
    with torch.device("meta"):
        generator, discriminator = cat(width=8, heads=2)
    drafts = generator(torch.randn(2, 64, device="meta"))
    assert drafts.shape == (2, 3, 3, 32, 32)
    (discriminator(drafts).sum() + consistency(drafts)).backward()


@pytest.mark.parametrize("checkpoint", [False, True])
def test_compiled_networks_are_one_graph(checkpoint):
    generator, discriminator = build(f"+checkpoint={checkpoint}+scales=2")
    for network, given in (
        (generator, latents()),
        (copy.deepcopy(generator).eval(), latents()),
        (discriminator, images(2)),
    ):
        compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(given), network(given), rtol=1e-10, atol=1e-10)


def test_a_penalty_at_real_images_of_every_scale():
    _, discriminator = build()
    assert isinstance(discriminator, CATDiscriminator)
    for given in (images(), images(SCALES)):
        osgan.regularizers.R1(1.0).accumulate(discriminator, given, given, ())
    assert all(p.grad.norm() > 0 for p in discriminator.parameters() if p is not discriminator.head.bias)
