"""A step with everything that a recipe of 2026 adds, by plain autograd: what every scheme is held against.

Penalties are written as the papers have them; the draws come in the order of a step: latents, the two draws of an
augmentation, the noise of each approximate penalty. D is called for each kind of images on its own.
"""

import copy

import torch
from reference import TEXTBOOK, gradients_of, relative_error

from osgan.regularizers import AR1, AR2, R1, R2, Consistency

ALIKE = ("two_stage_reused", "two_stage_reused_frozen", "simultaneous", "one_stage")
"""Schemes whose two gradients, while nothing moves, are those of the reference."""
PENALTIES = {
    "ar1": (AR1(0.7),),
    "ar2": (AR2(1.3, sigma=0.1),),
    "both": (AR1(0.7), AR2(1.3)),
    "a share": (AR2(1.3, share=0.34), AR1(0.7, share=0.5)),
    "one image": (AR1(0.7, share=0.01), AR2(0.7, share=0.01)),
    "beside r1": (R1(0.3), AR2(0.7)),
    "beside r2": (R2(0.3), AR1(0.7)),
    "all": (AR1(0.7), R2(0.2), R1(0.3), AR2(0.7)),
    "r1": (R1(0.7),),
    "r2": (R2(1.3),),
    "exact": (R1(0.7), R2(1.3)),
}


def exact_penalty(gamma, discriminator, see, images, labels):
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(see(images), *labels).sum(), images, create_graph=True)
    return gamma / 2 * slope.square().flatten(1).sum(1).mean()


def approximate_penalty(penalty, logits, discriminator, see, images, labels):
    num = max(1, round(penalty.share * len(images)))
    moved = images[:num].detach() + penalty.sigma * torch.randn_like(images[:num])
    there = discriminator(see.first(num)(moved) if see is not same else moved, *(y[:num] for y in labels))
    difference = logits.reshape(len(images), -1)[:num] - there.reshape(num, -1)
    return penalty.weight / 2 * (difference / penalty.sigma).square().sum(1).mean()


def same(images):
    return images


def losses_of(scheme, generator, discriminator, real, labels, regularizers, as_float32=False):
    """Return what D and what G minimise on a part of a batch, the fakes, and the leaf that both see them as."""
    of_discriminator, of_generator = TEXTBOOK[scheme.loss.name]
    fake = generator(scheme.latent(len(real), real.device), *labels)
    if fake.ndim > real.ndim:
        real = real.unsqueeze(1).expand(-1, fake.shape[1], *real.shape[1:])
    sees = (same, same)
    if scheme.augmentation is not None:
        sees = scheme.augmentation.draw(real), scheme.augmentation.draw(fake)
    leaf = (fake.float() if as_float32 else fake).detach().requires_grad_()
    logits = [discriminator(see(images), *labels).flatten() for see, images in zip(sees, (real, leaf), strict=True)]
    d_loss, g_loss = of_discriminator(*logits), of_generator(*logits)
    for penalty in regularizers:
        side = int(penalty.at_fake)
        images = (real, leaf)[side]
        if type(penalty) in (R1, R2):
            d_loss = d_loss + exact_penalty(penalty.weight, discriminator, sees[side], images, labels)
        if type(penalty) in (AR1, AR2):
            more = approximate_penalty(penalty, logits[side], discriminator, sees[side], images, labels)
            d_loss = d_loss + more
    own = sum(p.weight * agreement(fake) for p in regularizers if isinstance(p, Consistency))
    return d_loss, g_loss, own, fake, leaf


def agreement(images):
    """Return the consistency of images (N, S, C, H, W), S of them, written out."""
    *earlier, last = images.unbind(1)
    found = 0
    for place, image in enumerate(earlier):
        factor = 2 ** (len(earlier) - place)
        shrunk, target = (torch.nn.functional.avg_pool2d(x, factor) for x in (image, last.detach()))
        found = found + (shrunk - target).square().mean() / len(earlier)
    return found


def gradients(
    scheme, generator, discriminator, real, labels=(), regularizers=None, factor=lambda arrived: 1.0, as_float32=False
):
    """Return G's and D's gradients on a batch, the mean over the scheme's parts of it.

    `factor` of what arrives at the images is put on G's.
    """
    regularizers = scheme.regularizers if regularizers is None else regularizers
    parts = scheme.accumulate
    weights = [[p for p in n.parameters() if p.requires_grad] for n in (generator, discriminator)]
    totals = [[torch.zeros_like(p) for p in of_one] for of_one in weights]
    size = len(real) // parts
    for images, *theirs in zip(real.split(size), *(y.split(size) for y in labels), strict=True):
        found = losses_of(scheme, generator, discriminator, images, theirs, regularizers, as_float32)
        d_loss, g_loss, own, fake, leaf = found
        (arrived,) = torch.autograd.grad(g_loss / parts, leaf, retain_graph=True)
        of_d = torch.autograd.grad(d_loss / parts, weights[1], allow_unused=True, retain_graph=True)
        arrived = (factor(arrived) * arrived).to(fake.dtype)
        of_g = torch.autograd.grad(fake, weights[0], arrived, retain_graph=True)
        if isinstance(own, torch.Tensor):
            more = torch.autograd.grad(own / parts, weights[0])
            of_g = [a + b for a, b in zip(of_g, more, strict=True)]
        for total, found in zip(totals, (of_g, of_d), strict=True):
            for place, gradient in enumerate(found):
                total[place] += 0 if gradient is None else gradient
    return totals


def both_gradients(scheme, real, labels=(), seed=1, **options):
    """Return G's and D's gradients as their optimizers are given them, and the reference's; takes a step."""
    networks = copy.deepcopy((scheme.generator, scheme.discriminator))
    seen = {}
    for player in ("generator", "discriminator"):
        network = getattr(scheme, player)
        getattr(scheme, f"{player}_optimizer").register_step_pre_hook(
            lambda *_, network=network, player=player: seen.update({player: [g.clone() for g in gradients_of(network)]})
        )
    scheme.prepare(real, *labels)
    torch.manual_seed(seed)
    expected = gradients(scheme, *networks, real, labels, **options)
    torch.manual_seed(seed)
    scheme(real, *labels)
    return (seen["generator"], seen["discriminator"]), expected


def assert_exact(scheme, real, labels=(), tolerance=1e-10, **options):
    for mine, theirs in zip(*both_gradients(scheme, real, labels, **options), strict=True):
        assert relative_error(mine, theirs) <= tolerance
