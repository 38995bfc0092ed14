"""What distillation is held against: tiny players with BatchNorm, textbook losses, and plain autograd.

Nothing here is taken from the library but the container of the latents: both gradients are computed on their own, on
copies, through forward passes of their own.
"""

import copy
from functools import partial

import torch
from reference import relative_error
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import osgan
from osgan.distill import build_scheme

LATENT_DIM = 5
CLASSES = 4
BATCH = 6
SCHEMES = ("two_stage", "two_stage_frozen", "simultaneous", "one_stage")
SAME_WEIGHTS = SCHEMES[2:]

LOSSES = (
    "l1",
    "kl",
    "kl+temperature=3",
    "l1+one_hot=0.5",
    "kl+temperature=2+activation=0.3+information_entropy=2",
    "l1+one_hot=1+activation=0.1+information_entropy=5",
    "kl+adversarial=False+one_hot=1+information_entropy=5",
)


class Classifier(nn.Module):
    """Images (N, 1, 8, 8) -> logits, with BatchNorm."""

    def __init__(self, width=6, classes=CLASSES):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, width, 4, 2, 1), nn.BatchNorm2d(width), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(16 * width, 7), nn.Tanh()),
        )
        self.last = nn.Linear(7, classes)

    def with_features(self, x):
        features = self.body(x)
        return self.last(features), features

    def forward(self, x):
        return self.with_features(x)[0]


def make_generator():
    network = nn.Sequential(
        nn.Linear(LATENT_DIM, 64),
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 1, 3, padding=1),
        nn.BatchNorm2d(1),
        nn.Tanh(),
        nn.BatchNorm2d(1, affine=False),
    )
    network.latent_dim = LATENT_DIM
    return network


def make_players(dtype=torch.float64):
    """Return (teacher, student, generator); the teacher has seen images, so its statistics are its own."""
    players = Classifier(8).to(dtype), Classifier(4).to(dtype), make_generator().to(dtype)
    players[0](torch.randn(32, 1, 8, 8, dtype=dtype) * 2 + 1)
    players[0].eval()
    return players


def latent_of(dtype=torch.float64):
    return partial(osgan.Gaussian(LATENT_DIM), dtype=dtype)


def make_scheme(name, players, loss="l1", *, lr=0.0, k=1, build=build_scheme):
    """Build a scheme over these very players; with `lr` 0 a step leaves its gradients and moves no weight."""
    optimizers = [torch.optim.SGD(network.parameters(), lr=lr) for network in players[1:]]
    latent = latent_of(next(players[2].parameters()).dtype)
    return build(name, *players, *optimizers, latent=latent, batch_size=BATCH, loss=loss, student_steps=k)


def _log_p(logits):
    return logits - torch.logsumexp(logits, dim=1, keepdim=True)


def _agreement(name, options, t, s):
    if name == "l1":
        return (t - s).abs().sum() / t.numel()
    tau = options.get("temperature", 1)
    log_t, log_s = _log_p(t / tau), _log_p(s / tau)
    return tau**2 * (log_t.exp() * (log_t - log_s)).sum() / len(t)


def _terms(options, t, features):
    share = _log_p(t).exp().mean(0)
    return (
        options.get("one_hot", 0) * -_log_p(t).max(dim=1).values.mean()
        + options.get("activation", 0) * -features.abs().mean()
        + options.get("information_entropy", 0) * (share * share.log()).sum()
    )


def textbook(loss):
    """Return (student's loss, generator's loss), functions of teacher's logits, features and student's logits."""
    name, *parts = loss.split("+")
    options = dict(part.split("=") for part in parts)
    sign = 0 if options.pop("adversarial", None) == "False" else -1
    options = {key: float(value) for key, value in options.items()}
    return (
        lambda t, features, s: _agreement(name, options, t, s),
        lambda t, features, s: sign * _agreement(name, options, t, s) + _terms(options, t, features),
    )


def two_gradients(players, loss, z):
    """Return the gradients of the student's and of the generator's textbook loss at the same weights."""
    of_student, of_generator = textbook(loss)
    found = []
    for index, which in ((1, of_student), (2, of_generator)):
        teacher, student, generator = own = copy.deepcopy(players)
        images = generator(z)
        if index == 1:
            images = images.detach()
        value = which(*teacher.with_features(images), student(images))
        found.append(torch.autograd.grad(value, list(own[index].parameters())))
    return found


def gradient_errors(scheme, loss, seed=1):
    """Take one step with lr 0 and k 1; return the relative errors of the student's and the generator's gradients."""
    players = copy.deepcopy((scheme.teacher, scheme.student, scheme.generator))
    torch.manual_seed(seed)
    z = scheme.latent(scheme.batch_size, torch.device("cpu"))
    reference = two_gradients(players, loss, z)
    torch.manual_seed(seed)
    scheme()
    mine = [[p.grad for p in network.parameters()] for network in (scheme.student, scheme.generator)]
    assert {g.dtype for gradients in mine for g in gradients} == {z.dtype}
    return tuple(relative_error(a, b) for a, b in zip(mine, reference, strict=True))


class PlainLoop:
    """The published loop as a script would have it, or the merged one: no optimizer, no freezing, no leaf."""

    def __init__(self, players, loss, *, lr, k, merged):
        self.teacher, self.student, self.generator = players
        self.of_student, self.of_generator = textbook(loss)
        self.lr, self.k, self.merged = lr, k, merged

    def descend(self, network, gradients):
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= self.lr * gradient

    def step(self):
        def gradients(network, loss, images):
            value = loss(*self.teacher.with_features(images), self.student(images))
            return torch.autograd.grad(value, list(network.parameters()), retain_graph=True)

        def make():
            return self.generator(latent_of()(BATCH, "cpu"))

        for update in range(self.k):
            images = make()
            if self.merged and update == self.k - 1:
                buffers = copy.deepcopy(dict(self.student.named_buffers()))
                of_generator = gradients(self.generator, self.of_generator, images)
                self.student.load_state_dict(buffers, strict=False)  # one forward moves the statistics once
            of_student = gradients(self.student, self.of_student, images.detach())
            self.descend(self.student, of_student)
        if not self.merged:
            of_generator = gradients(self.generator, self.of_generator, make())
        self.descend(self.generator, of_generator)


class Waiting(TorchDispatchMode):
    """Fail on every operation that makes the host read a tensor."""

    READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.READS:
            raise AssertionError(f"the step waits for {func}")
        return func(*args, **(kwargs or {}))
