"""What the library is held against: tiny networks, textbook losses, and plain autograd with one pass a gradient.

Nothing here is taken from the library but the container of the latents. Both gradients are computed on their own, real
and fake images never share a batch, and the losses are written as the textbooks have them, as means over logits.
"""

import copy
from functools import partial

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import mse_loss

import osgan
from osgan import losses

LOSSES = ("minimax", "nonsaturating", "lsgan", "hinge", "wgan", "rpgan", "ragan")
SYMMETRIC = ("minimax", "wgan")
ASYMMETRIC = ("nonsaturating", "lsgan", "hinge", "rpgan", "ragan")
SCHEMES = (
    "two_stage",
    "two_stage_frozen",
    "two_stage_reused",
    "two_stage_reused_frozen",
    "simultaneous",
    "one_stage",
)
ALTERNATING = SCHEMES[:4]
BATCH = 6
CHANNELS = 2
SIZE = 8
LATENT_DIM = 4
CLASSES = 3
EXACT = {torch.float64: 1e-10, torch.float32: 1e-5}


def _one(s):
    return torch.ones_like(s)


def _zero(s):
    return torch.zeros_like(s)


def _relativistic(winner, loser):
    return torch.logaddexp(_zero(winner), loser - winner).mean()


# name: (loss of D, loss of G), both of (real logits, fake logits)
TEXTBOOK = {
    "minimax": (
        lambda r, f: cross_entropy(r, _one(r)) + cross_entropy(f, _zero(f)),
        lambda r, f: -cross_entropy(f, _zero(f)),
    ),
    "nonsaturating": (
        lambda r, f: cross_entropy(r, _one(r)) + cross_entropy(f, _zero(f)),
        lambda r, f: cross_entropy(f, _one(f)),
    ),
    "lsgan": (
        lambda r, f: 0.5 * mse_loss(r, _one(r)) + 0.5 * mse_loss(f, _zero(f)),
        lambda r, f: 0.5 * mse_loss(f, _one(f)),
    ),
    "hinge": (
        lambda r, f: (1 - r).clamp_min(0).mean() + (1 + f).clamp_min(0).mean(),
        lambda r, f: -f.mean(),
    ),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "rpgan": (lambda r, f: _relativistic(r, f), lambda r, f: _relativistic(f, r)),
    "ragan": (
        lambda r, f: cross_entropy(r - f.mean(), _one(r)) + cross_entropy(f - r.mean(), _zero(f)),
        lambda r, f: cross_entropy(r - f.mean(), _zero(r)) + cross_entropy(f - r.mean(), _one(f)),
    ),
}


class Generator(nn.Module):
    """Latents (N, 4) -> images (N, 2, 8, 8), with BatchNorm."""

    latent_dim = LATENT_DIM

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(LATENT_DIM, 8, 4),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, CHANNELS, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.layers(z[:, :, None, None])


class Crowd(nn.Module):
    """Add to every image how much the batch scatters: minibatch-stddev under a name that gives nothing away."""

    def forward(self, x):
        return x + (x - x.mean(0)).square().mean().add(1e-3).sqrt()


class Whisper(nn.Module):
    """Mix the batch in through a gain that starts at zero."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.gain * x.mean(0)


MIDDLES = {
    "none": nn.Identity,
    "group": lambda: nn.GroupNorm(2, 8),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True),
    "batch": lambda: nn.BatchNorm2d(8),
    "crowd": Crowd,
    "whisper": Whisper,
}
MIXING = ("batch", "crowd", "whisper")
SAMPLE_WISE = ("none", "group", "instance")


def make_discriminator(middle="group", *, patch=False):
    """Images (N, 2, 8, 8) -> logits (N,), or (N, 1, 2, 2) of a PatchGAN."""
    head = [nn.Conv2d(8, 1, 3)] if patch else [nn.Conv2d(8, 1, 4), nn.Flatten(0)]
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8, 8, 3, 1, 1),
        MIDDLES[middle](),
        nn.LeakyReLU(0.2),
        *head,
    )


def build(channels):
    """Build a pair as a user's module would, for osgan.nets.build."""
    assert channels == CHANNELS
    return Generator(), make_discriminator()


class ConditionalGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, LATENT_DIM)
        self.generator = Generator()

    def forward(self, z, y):
        return self.generator(z + self.embedding(y))


class ConditionalDiscriminator(nn.Module):
    """Projection discriminator: the logit has a term for the class."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(CHANNELS, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten())
        self.embedding = nn.Embedding(CLASSES, 128)
        self.logit = nn.Linear(128, 1)

    def forward(self, x, y):
        features = self.features(x)
        return self.logit(features) + (features * self.embedding(y)).sum(1, keepdim=True)


def make_networks(middle="group", *, dtype=torch.float64, patch=False, conditional=False):
    """Return (G, D); every weight and running statistic is of that dtype."""
    if conditional:
        pair = ConditionalGenerator(), ConditionalDiscriminator()
    else:
        pair = Generator(), make_discriminator(middle, patch=patch)
    for network in pair:
        network.to(dtype)
        assert {p.dtype for p in network.parameters()} == {dtype}
    return pair


def make_real(dtype=torch.float64, batch=BATCH):
    return torch.rand(batch, CHANNELS, SIZE, SIZE, dtype=dtype) * 2 - 1


def make_labels(batch=BATCH):
    return torch.arange(batch) % CLASSES


def latent_of(dtype=torch.float64):
    return partial(osgan.Gaussian(LATENT_DIM), dtype=dtype)


def make_scheme(name, generator, discriminator, loss, *, lr=0.0, optimizer=torch.optim.SGD, dtype=None, **options):
    """Build a scheme over these very networks; with `lr` 0 a step leaves its gradients and moves no weight."""
    dtype = dtype or next(generator.parameters()).dtype
    optimizers = [optimizer(network.parameters(), lr=lr) for network in (generator, discriminator)]
    return osgan.build_scheme(
        name, generator, discriminator, *optimizers, loss=loss, latent=latent_of(dtype), **options
    )


def two_gradients(generator, discriminator, loss, z, real, labels=()):
    """Return the gradients of both textbook losses at the same weights, of G's and of D's parameters."""
    of_discriminator, of_generator = TEXTBOOK[loss]
    fake = generator(z, *labels)
    real_logits = discriminator(real, *labels).flatten()
    d_loss = of_discriminator(real_logits, discriminator(fake.detach(), *labels).flatten())
    d_gradients = torch.autograd.grad(d_loss, list(discriminator.parameters()))
    g_loss = of_generator(real_logits.detach(), discriminator(fake, *labels).flatten())
    return torch.autograd.grad(g_loss, list(generator.parameters())), d_gradients


def assign(network, gradients):
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient


def relative_error(mine, reference):
    """Euclidean over all tensors, in float64; NaN and infinity are kept."""
    mine, reference = (torch.cat([t.detach().double().flatten() for t in many]) for many in (mine, reference))
    assert reference.norm() > 0, "a reference of zeros would prove nothing"
    return ((mine - reference).norm() / reference.norm()).item()


def gradients_of(network):
    return [parameter.grad for parameter in network.parameters()]


def gradient_errors(scheme, real, labels=None, seed=1):
    """Take one step of a scheme with lr 0; return the relative errors of G's and D's gradients to the reference."""
    given = () if labels is None else (labels,)
    generator, discriminator = copy.deepcopy((scheme.generator, scheme.discriminator))
    torch.manual_seed(seed)
    z = scheme.latent(real.shape[0], real.device)
    assert z.dtype == real.dtype == next(generator.parameters()).dtype
    reference = two_gradients(generator, discriminator, scheme.loss.name, z, real, given)
    torch.manual_seed(seed)
    scheme(real, labels)
    mine = gradients_of(scheme.generator), gradients_of(scheme.discriminator)
    assert {gradient.dtype for gradients in mine for gradient in gradients} == {real.dtype}
    return tuple(relative_error(a, b) for a, b in zip(mine, reference, strict=True))


def assert_exact(scheme, real, labels=None, tolerance=None):
    """Hold one step against the two-gradient reference."""
    errors = gradient_errors(scheme, real, labels)
    tolerance = tolerance or EXACT[real.dtype]
    assert all(error <= tolerance for error in errors), (errors, tolerance)


def as_custom(name, **changes):
    """Return a library loss as a user would write it: no closed-form derivatives."""
    loss = losses.LOSSES[name]
    claims = {"symmetric": loss.symmetric, "paired": loss.paired} | changes
    return osgan.AdversarialLoss(name, loss.discriminator, loss.generator, **claims)


def snapshot(*networks):
    """Copy every weight, buffer and gradient, and the random state."""
    state = {"rng": torch.get_rng_state()}
    for index, network in enumerate(networks):
        for name, tensor in network.state_dict().items():
            state[f"{index}.{name}"] = tensor.clone()
        for name, parameter in network.named_parameters():
            state[f"{index}.{name}.grad"] = None if parameter.grad is None else parameter.grad.clone()
            state[f"{index}.{name}.requires_grad"] = torch.tensor(parameter.requires_grad)
    return state


def changed(before, after):
    """Return the names of what differs between two snapshots."""
    assert before.keys() == after.keys()
    return [
        name
        for name, old in before.items()
        if (old is None) != (after[name] is None) or (old is not None and not torch.equal(old, after[name]))
    ]


def with_gradients(*networks):
    """Give every weight a gradient that a stray zero_grad or backward would change."""
    for network in networks:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 7.0)
