"""`osgan.backward` under Lightning, Accelerate and autocast: the step is that of two gradients in plain PyTorch."""

import copy
import importlib
import itertools

import pytest
import torch
from torch.nn.functional import softplus
from torch.nn.utils import clip_grad_norm_

import osgan
from osgan import data, nets


class FewImages:
    """What `data.load` returns, as far as the examples ask: images (N, 1, 16, 16), always the same."""

    def __init__(self, n):
        self.all = torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def images(self, n):
        return self.all

    def batches(self, batch_size, seed):
        return ((chunk, None) for chunk in itertools.cycle(self.all.split(batch_size)))


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture
def recorded(monkeypatch):
    """Run in float64 with plain gradient descent, whose steps show the gradients; return the latents drawn."""
    before, drawn, randn = torch.get_default_dtype(), [], torch.randn
    torch.set_default_dtype(torch.float64)

    def draw(*shape, **given):
        drawn.append(randn(*shape, **given))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn", draw)
    monkeypatch.setattr(torch.optim, "Adam", lambda weights, *_: torch.optim.SGD(weights, 1.0))
    monkeypatch.setattr(data, "load", lambda *_, **__: FewImages(64))
    yield drawn
    torch.set_default_dtype(before)


def reference(real, drawn, limit=float("inf")):
    """Return G and D before and after a step of plain PyTorch: each player's gradient of its own loss, same weights."""
    torch.manual_seed(0)
    before = nets.dcgan(resolution=16, width=8, channels=1)
    G, D = after = copy.deepcopy(before)
    fakes = torch.cat([G(latents) for latents in drawn])  # G's BatchNorm knows a batch at a time
    on_real, on_fake = D(real), D(fakes)
    losses = softplus(-on_fake).mean(), softplus(-on_real).mean() + softplus(on_fake).mean()
    for network, loss in zip(after, losses, strict=True):
        weights = list(network.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
            weight.grad = gradient
    for network in after:
        clip_grad_norm_(network.parameters(), limit)
        torch.optim.SGD(network.parameters(), 1.0).step()
    return before, after


def error(found, before, after):
    """Return the largest of both players' relative errors of what the weights moved by."""
    ends = [torch.cat([w.detach().flatten() for w in network.parameters()]) for network in (*found, *before, *after)]
    return max(((ends[i] - ends[i + 4]).norm() / (ends[i + 4] - ends[i + 2]).norm()).item() for i in (0, 1))


SAID_BY_OTHERS = (
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.*number of training batches:UserWarning",
    "ignore:.*treespec:FutureWarning",
)


def loud(test):
    """Let Lightning say what it likes of loaders, and be late in what it calls."""
    for said in SAID_BY_OTHERS:
        test = pytest.mark.filterwarnings(said)(test)
    return test


def run(framework, **given):
    torch.manual_seed(0)
    return importlib.import_module(f"examples.with_{framework}").main(**given)


@loud
def test_lightning_takes_both_gradients(recorded, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: FewImages(32))
    gan = run("lightning", epochs=1, enable_progress_bar=False, enable_model_summary=False)
    assert error((gan.G, gan.D), *reference(FewImages(32).all, recorded)) < 1e-10


@pytest.mark.parametrize("limit", [1e6, 0.01])
def test_accelerate_accumulates_and_clips_each_player(recorded, limit):
    found = run("accelerate", epochs=1, limit=limit)
    assert len(recorded) == 2
    assert error(found, *reference(FewImages(64).all, recorded, limit)) < 1e-10


@pytest.mark.parametrize("limit", [1e6, 0.01])
def test_amp_accumulates_and_clips_each_player(recorded, limit):
    """Autocast leaves float64 alone; the losses' float32 is what is seen."""
    G, D, average = run("amp", steps=1, limit=limit)
    assert len(recorded) == 2
    before, after = reference(FewImages(64).all, recorded, limit)
    assert error((G, D), before, after) < 1e-5
    assert all(torch.equal(a, b) for a, b in zip(average.module.parameters(), G.parameters(), strict=True))


def test_a_gradient_counted_twice_is_seen(recorded, monkeypatch):
    backward = osgan.backward
    monkeypatch.setattr(osgan, "backward", lambda leaf, d, g, **given: backward(leaf, d, 2 * g, **given))
    found = run("accelerate", epochs=1, limit=1e6)
    assert error(found, *reference(FewImages(64).all, recorded)) > 0.5


def far_from_digits(G):
    real = data.load("digits", resolution=16, device="cpu").images(512)
    with torch.no_grad():
        return (G(torch.randn(512, 100)).mean(0) - real.mean(0)).abs().mean().item()


@loud
@pytest.mark.parametrize(
    ("framework", "given"),
    [
        ("lightning", {"enable_progress_bar": False}),
        ("lightning", {"enable_progress_bar": False, "enable_model_summary": False, "precision": "bf16-mixed"}),
        ("accelerate", {}),
        ("amp", {}),
    ],
)
def test_training_comes_nearer_to_the_digits(framework, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    untrained, _ = nets.dcgan(resolution=16, width=8, channels=1)
    found = run(framework, **given)
    G = found.G if framework == "lightning" else found[0]
    assert far_from_digits(G.cpu()) < 0.8 * far_from_digits(untrained)
    assert not list(tmp_path.iterdir())
