"""Other people's networks: what one stage must be exact for, float64, against two gradients of textbook losses.

The reference takes real and fake images in one batch where the library does, so that dropout draws the same masks.
"""

import copy
import warnings

import pytest
import torch
from reference import TEXTBOOK, relative_error
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import osgan

N = 6
LATENT = 4
SYMMETRIC = ("minimax", "wgan")


class Maker(nn.Module):
    """Latents (N, 4) -> images of any shape, with BatchNorm."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape
        size = torch.Size(shape).numel()
        self.layers = nn.Sequential(nn.Linear(LATENT, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, size), nn.Tanh())

    def forward(self, z):
        return self.layers(z).view(len(z), *self.shape)


class Conditional(nn.Module):
    """Condition on labels of any shape by adding a projection of them to what the network returns or is given."""

    def __init__(self, network, size, *, before=False):
        super().__init__()
        self.network = network
        self.of_label = nn.Linear(size, LATENT if before else 1)
        self.before = before

    def forward(self, x, y):
        condition = self.of_label(y.flatten(1).to(torch.float64))
        return self.network(x + condition) if self.before else self.network(x) + condition


def convolutions(middle=None, norm=lambda layer: layer, shape=(-1,)):
    layers = [
        norm(nn.Conv2d(2, 8, 4, 2, 1)), nn.LeakyReLU(0.2), norm(nn.Conv2d(8, 8, 3, 1, 1)), middle or nn.Identity(),
        nn.LeakyReLU(0.2), norm(nn.Conv2d(8, 1, 4)), nn.Flatten(0), nn.Unflatten(0, shape),
    ]  # fmt: skip
    return nn.Sequential(*layers)


class Twice(nn.Module):
    """A layer that is used twice, and one whose weights are those of another."""

    def __init__(self, *, tied=False):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(128, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        self.third = nn.Linear(16, 16)
        if tied:
            self.third.weight = self.again.weight

    def forward(self, x):
        x = torch.relu(self.again(torch.relu(self.first(x.flatten(1)))))
        return self.last(torch.relu(self.third(self.again(x))))


class Remembers(nn.Module):
    """Buffers that are counted, used and replaced, and attributes that a forward pass changes."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(128, 1)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones(()))
        self.seen = []

    def forward(self, x):
        self.count += 1
        self.scale = self.scale * 0.5 + 0.5
        self.seen.append(float(x.mean().detach()))
        self.last_std = x.std()
        return self.score(x.flatten(1)) * self.scale


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.score = nn.GRU(2, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.score(self.gru(x.transpose(1, 2))[0][:, -1])


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.score = nn.Linear(16, 8), nn.Linear(8, 1)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)

    def forward(self, x):
        return self.score(self.layer(self.embed(x.flatten(2))).mean(1))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.score = nn.Sequential(nn.Linear(128, 16), nn.Tanh()), nn.Linear(16, 1)

    def forward(self, x):
        return self.score(checkpoint(self.body, x.flatten(1), use_reentrant=False))


def frozen(network, *layers):
    for index in layers:
        network[index].requires_grad_(False)
    return network


def with_unused(network):
    network.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return network


def old(norm):
    def apply(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return norm(layer)

    return apply


def flat(*more):
    return nn.Sequential(nn.Flatten(), *more)


IMAGE = (2, 8, 8)
# name: (shape of an image, builder of D, losses that one stage is exact for)
ALL = ("minimax", "nonsaturating", "hinge", "rpgan", "ragan")
CASES = {
    "plain": (IMAGE, convolutions, ALL),
    "logits (N, 1)": (IMAGE, lambda: convolutions(shape=(-1, 1)), ALL),
    "logits (N, 1, 1, 1)": (IMAGE, lambda: convolutions(shape=(-1, 1, 1, 1)), ALL),
    "dropout": (IMAGE, lambda: convolutions(nn.Dropout(0.3)), ALL),
    "old spectral norm": (IMAGE, lambda: convolutions(norm=old(nn.utils.spectral_norm)), ALL),
    "new spectral norm": (IMAGE, lambda: convolutions(norm=parametrizations.spectral_norm), ALL),
    "old weight norm": (IMAGE, lambda: convolutions(norm=old(nn.utils.weight_norm)), ALL),
    "new weight norm": (IMAGE, lambda: convolutions(norm=parametrizations.weight_norm), ALL),
    "instance norm": (IMAGE, lambda: convolutions(nn.InstanceNorm2d(8, affine=True)), ALL),
    "instance norm, running": (IMAGE, lambda: convolutions(nn.InstanceNorm2d(8, track_running_stats=True)), ALL),
    "group norm": (IMAGE, lambda: convolutions(nn.GroupNorm(2, 8)), ALL),
    "layer norm": (IMAGE, lambda: convolutions(nn.LayerNorm([8, 4, 4])), ALL),
    "batch norm": (IMAGE, lambda: convolutions(nn.BatchNorm2d(8)), SYMMETRIC),
    "batch norm, layer in eval mode": (IMAGE, lambda: convolutions(nn.BatchNorm2d(8).eval()), ALL),
    "a layer used twice": (IMAGE, Twice, ALL),
    "tied weights": (IMAGE, lambda: Twice(tied=True), ALL),
    "buffers and attributes": (IMAGE, Remembers, ALL),
    "frozen layers in D": (IMAGE, lambda: frozen(convolutions(), 0, 2), ALL),
    "unused weights": (IMAGE, lambda: with_unused(convolutions()), ALL),
    "channels_last": (IMAGE, lambda: convolutions().to(memory_format=torch.channels_last), ALL),
    "vectors": ((2,), lambda: flat(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), ALL),
    "audio": ((1, 32), lambda: nn.Sequential(nn.Conv1d(1, 4, 8, 4), nn.LeakyReLU(), flat(nn.Linear(28, 1))), ALL),
    "video": ((1, 4, 8, 8), lambda: nn.Sequential(nn.Conv3d(1, 4, 4, 2, 1), nn.Tanh(), flat(nn.Linear(128, 1))), ALL),
    "GRU": ((2, 5), Recurrent, ALL),
    "transformer with dropout": ((3, 4, 4), Attends, ALL),
    "patches": (IMAGE, lambda: nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.Tanh(), nn.Conv2d(4, 1, 3)), SYMMETRIC),
    "two logits": (IMAGE, lambda: flat(nn.Linear(128, 2)), ("minimax",)),
    "checkpointed": (IMAGE, Checkpointed, ALL),
}  # fmt: skip
CONDITIONS = {
    "classes": lambda n: torch.arange(n)[:, None] % 3,
    "one-hot": lambda n: torch.eye(3)[torch.arange(n) % 3],
    "images": lambda n: torch.linspace(0, 1, n * 12).view(n, 3, 2, 2),
}


def reference(generator, discriminator, loss, latent, real, labels, joint):
    fake = generator(latent(len(real), real.device), *labels)
    leaf = fake.detach().requires_grad_()
    if joint:
        doubled = [torch.cat([y, y]) for y in labels]
        real_logits, fake_logits = discriminator(torch.cat([real, leaf]), *doubled).flatten().chunk(2)
    else:
        real_logits, fake_logits = (discriminator(x, *labels).flatten() for x in (real, leaf))
    of_discriminator, of_generator = (part(real_logits, fake_logits) for part in TEXTBOOK[loss])
    (to_generator,) = torch.autograd.grad(of_generator, leaf, retain_graph=True)
    found = []
    for output, network, direction in ((fake, generator, to_generator), (of_discriminator, discriminator, None)):
        weights = [p for p in network.parameters() if p.requires_grad]
        found.append([g for g in torch.autograd.grad(output, weights, direction, allow_unused=True) if g is not None])
    return found


def copied(network):
    return osgan.copies.copy_of(network, "network")


def assert_exact_for(scheme, real, labels=None, steps=3):
    """Hold every step's gradients against the reference at the weights, buffers and random state of that step."""
    given = () if labels is None else (labels,)
    for step in range(steps):
        generator, discriminator = copied(scheme.generator), copied(scheme.discriminator)
        if step == 0:
            scheme.prepare(real, labels)
        joint = scheme.joint_batch and scheme.structure.can_share_a_batch and type(scheme) is osgan.OneStage
        torch.manual_seed(step)
        expected = reference(generator, discriminator, scheme.loss.name, scheme.latent, real, given, joint)
        torch.manual_seed(step)
        scheme(real, labels)
        for network, theirs in zip((scheme.generator, scheme.discriminator), expected, strict=True):
            mine = [p.grad for p in network.parameters() if p.requires_grad and p.grad is not None]
            assert relative_error(mine, theirs) <= 1e-10


def make(shape, build, loss, *, scheme=osgan.OneStage, optimizer=torch.optim.SGD, generator=None):
    torch.manual_seed(0)
    players = (generator or Maker(*shape)).double(), build().double()
    optimizers = [optimizer([p for p in player.parameters() if p.requires_grad], lr=1e-2) for player in players]
    return scheme(*players, *optimizers, loss=loss, latent=osgan.Gaussian(LATENT, torch.float64))


def real_of(shape, n=N):
    return torch.rand(n, *shape, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("name", CASES)
def test_one_stage_is_exact(name, loss):
    shape, build, losses = CASES[name]
    scheme = make(shape, build, loss)
    if loss in losses:
        assert_exact_for(scheme, real_of(shape))
    else:
        with pytest.raises(osgan.errors.NotExactError):
            scheme(real_of(shape))


@pytest.mark.parametrize("name", CASES)
def test_two_gradients_from_one_forward_pass_are_exact_for_every_discriminator(name):
    shape, build, _ = CASES[name]
    assert_exact_for(make(shape, build, "hinge", scheme=osgan.Simultaneous), real_of(shape))


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("loss", ["minimax", "nonsaturating"])
def test_labels_of_any_shape(condition, loss):
    labels = CONDITIONS[condition](N)
    size = labels[0].numel()
    scheme = make(
        IMAGE, lambda: Conditional(convolutions(shape=(-1, 1)), size), loss,
        generator=Conditional(Maker(*IMAGE), size, before=True),
    )  # fmt: skip
    assert_exact_for(scheme, real_of(IMAGE), labels)
    found = osgan.predict_speedup(
        scheme.generator, scheme.discriminator, loss, real_of(IMAGE), scheme.latent, labels, n_critic=2
    )
    assert found.ceilings["two_stage"] > 1


@pytest.mark.parametrize("loss", ["minimax", "nonsaturating"])
def test_adam_and_a_single_image(loss):
    generator = nn.Sequential(nn.Linear(LATENT, 128), nn.Tanh(), nn.Unflatten(1, IMAGE))
    scheme = make(IMAGE, convolutions, loss, optimizer=torch.optim.AdamW, generator=generator)
    assert_exact_for(scheme, real_of(IMAGE, 1))


@pytest.mark.parametrize("whose", ["generator", "discriminator"])
def test_a_whole_network_in_evaluation_mode_is_exact_and_said(whose):
    scheme = make(IMAGE, lambda: convolutions(nn.BatchNorm2d(8)), "nonsaturating")
    getattr(scheme, whose).eval()
    if whose == "generator":
        scheme.discriminator[3] = nn.Identity()
    with pytest.warns(osgan.InputWarning, match=f"the {whose} is trained in evaluation mode"):
        assert_exact_for(scheme, real_of(IMAGE), steps=1)


def test_images_that_do_not_lie_in_one_piece():
    scheme = make(IMAGE, convolutions, "hinge")
    assert_exact_for(scheme, real_of((8, 8, 2)).permute(0, 3, 1, 2))


def test_frozen_layers_in_the_generator():
    generator = Maker(*IMAGE)
    generator.layers[0].requires_grad_(False)
    assert_exact_for(make(IMAGE, convolutions, "nonsaturating", generator=generator), real_of(IMAGE))


@pytest.mark.parametrize("name", ["old weight norm", "old spectral norm", "buffers and attributes", "plain"])
def test_verify_and_predict_work_before_and_after_a_step(name):
    shape, build, _ = CASES[name]
    scheme = make(shape, build, "hinge")
    asked = scheme.generator, scheme.discriminator, "hinge", real_of(shape), scheme.latent
    for _ in range(2):
        assert osgan.verify(*asked).exact
        assert osgan.predict_speedup(*asked).ceilings["two_stage"] > 1
        scheme(real_of(shape))


@pytest.mark.parametrize("name", CASES)
def test_the_networks_are_left_as_they_were_by_looking_at_them(name):
    shape, build, losses = CASES[name]
    scheme = make(shape, build, losses[-1])
    asked = scheme.generator, scheme.discriminator, losses[-1], real_of(shape), scheme.latent
    scheme.discriminator(real_of(shape))
    before = [everything_of(n) for n in asked[:2]]
    state = torch.get_rng_state()
    scheme.prepare(real_of(shape))
    osgan.verify(*asked)
    osgan.predict_speedup(*asked)
    torch.set_rng_state(state)
    assert [everything_of(n) for n in asked[:2]] == before


def everything_of(network):
    """Return weights, buffers, gradients and plain attributes of every module, to be compared."""
    return [
        {key: written(value) for key, value in vars(module).items() if not key.endswith("_hooks")}
        for module in network.modules()
    ]


def written(value):
    if isinstance(value, torch.Tensor):
        return value.detach().flatten().tolist(), value.is_leaf and value.grad is None
    if isinstance(value, dict):
        return {key: written(entry) for key, entry in value.items() if not isinstance(entry, nn.Module)}
    return copy.copy(value) if isinstance(value, list | int | float | str | bool | None) else str(type(value))
