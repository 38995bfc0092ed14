"""Pix2pix, few-step distillation and a DCGAN loop in one stage: gradients against plain autograd, what is printed."""

import copy
import difflib
import importlib
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss, mse_loss, softplus

import osgan
import osgan.passes

EXAMPLES = Path(__file__).parents[1] / "examples"
DCGAN = EXAMPLES / "dcgan"
RECIPES = ("pix2pix", "few_step", "dcgan.game")
SIZES = {"pix2pix": {"batch_size": 2, "width": 8}, "few_step": {"batch_size": 4, "width": 8, "weight": 1.0}}
SIZES["dcgan.game"] = {"batch_size": 4}
GAMES = (*RECIPES, "dann", "adversarial_autoencoder")
SIZES |= {name: {"batch_size": 4, "weight": 1.0} for name in GAMES[3:]}


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def game_of(name):
    game = importlib.import_module(f"examples.{name}").Game(**SIZES[name])
    for key, value in vars(game).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(game, key, value.double())
    return game


def optimizers(game):
    """Return those of G's side and of D's."""
    return getattr(game, "G_optimizer", None) or game.optimizer, game.D_optimizer


def weights(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def losses_of_pix2pix(game, batch):
    grey, colours = batch
    fakes = game.G(grey)
    real, fake = game.D(torch.cat([grey, colours], 1)), game.D(torch.cat([grey, fakes], 1))
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    loss = binary_cross_entropy_with_logits
    return loss(fake, ones) + 100 * l1_loss(fakes, colours), (loss(real, ones) + loss(fake, zeros)) / 2


def losses_of_few_step(game, batch):
    real, noise, (level, other) = batch
    half = len(real) // 2
    with torch.no_grad():
        first = game.G(4.0 * noise[0, half:], torch.full((half, 1, 1, 1), 4.0))
    starts = torch.cat([4.0 * noise[0, :half], first + 0.8 * noise[1, half:]])
    levels = torch.tensor([4.0] * half + [0.8] * half).view(-1, 1, 1, 1)
    fakes = game.G(starts, levels)
    on_real, on_fake = (game.D.logit(x + level * e, level) for x, e in ((real, noise[2]), (fakes, noise[3])))
    noised = fakes.detach() + other * noise[4]
    denoised = game.D(noised, other)
    with torch.no_grad():
        spread = 0.2**2 + other**2
        away = (noised[:, None] - game.digits[None]).square().sum((2, 3, 4))
        posterior = (-away / (2 * spread.flatten(1))).softmax(1)
        target = torch.einsum("nk,kchw->nchw", posterior, game.digits)
        target = target + 0.2**2 / spread * (noised - target)
        direction = (denoised - target) / (fakes - target).abs().mean((1, 2, 3), keepdim=True)
    matching = (fakes * direction).sum() / fakes.numel()  # another function with the same gradient
    of_score = ((1 + 1 / other**2) * (denoised - fakes.detach()) ** 2).mean()
    adversarial = softplus(-on_real).mean() + softplus(on_fake).mean()
    return matching + game.weight * softplus(-on_fake).mean(), of_score + game.weight * adversarial


def losses_of_dcgan_game(game, batch):
    real, z = batch
    on_real, on_fake = game.D(real), game.D(game.G(z))
    return -on_fake.log().mean(), -on_real.log().mean() - (1 - on_fake).log().mean()


def losses_of_dann(game, batch):
    images, labels = batch
    features = game.F(images)
    clean, distorted = game.D(features).flatten().chunk(2)
    of_D = softplus(-clean).mean() + softplus(distorted).mean()
    return cross_entropy(game.C(features[: len(labels)]), labels) - game.weight * of_D, of_D


def losses_of_adversarial_autoencoder(game, batch):
    digits, normal = batch
    codes = game.encoder(digits)
    real, fake = game.D(normal), game.D(codes)
    of_G = mse_loss(game.decoder(codes), digits) + game.weight * softplus(-fake).mean()
    return of_G, softplus(-real).mean() + softplus(fake).mean()


def reference(name, game, batch):
    """Return both players' gradients by plain autograd, each of its own loss for its own weights."""
    game = copy.deepcopy(game)
    losses = globals()[f"losses_of_{name.replace('.', '_')}"](game, batch)
    found = [
        torch.autograd.grad(loss, weights(optimizer), retain_graph=True)
        for loss, optimizer in zip(losses, optimizers(game), strict=True)
    ]
    return [torch.cat([g.flatten() for g in gradients]) for gradients in found]


def filled(game, batch):
    game = copy.deepcopy(game)
    game.fill(batch)
    return [torch.cat([p.grad.flatten() for p in weights(optimizer)]) for optimizer in optimizers(game)]


def errors(name, game, batch):
    pairs = zip(filled(game, batch), reference(name, game, batch), strict=True)
    return [((mine - other).norm() / other.norm()).item() for mine, other in pairs]


@pytest.mark.parametrize("name", GAMES)
def test_gradients_are_those_of_plain_autograd(name):
    game = game_of(name)
    for seed in range(3):  # one pass is measured in steps 1, 2, 4, 8, ...: not in the third
        torch.manual_seed(seed)
        assert max(errors(name, game, game.draw())) < 1e-10


@pytest.mark.parametrize("name", [name for name in GAMES if name != "dcgan.game"])
@pytest.mark.parametrize("factor", [0, 2])
def test_an_extra_loss_left_out_or_counted_twice_is_seen(name, factor, monkeypatch):
    game = game_of(name)
    backward = osgan.backward
    monkeypatch.setattr(osgan, "backward", lambda *given, extra, **more: backward(*given, extra=factor * extra, **more))
    of_G, of_D = errors(name, game, game.draw())
    assert of_G > 1e-2
    assert of_D < 1e-10


@pytest.mark.parametrize("name", ["few_step", "dann", "adversarial_autoencoder"])
def test_a_ratio_left_out_is_seen(name, monkeypatch):
    monkeypatch.setattr(osgan.passes, "decompose", lambda carrier, *_: (carrier, torch.ones_like(carrier)))
    monkeypatch.setattr(osgan.passes, "constant_ratio", lambda *_: 1.0)
    game = game_of(name)
    of_G, of_D = errors(name, game, game.draw())
    assert of_G > 1e-2
    assert of_D < 1e-10


def test_a_loss_of_its_own_that_D_forgets_is_seen(monkeypatch):
    game = game_of("few_step")
    losses = type(game).losses_of_D

    def forgetful(self, batch, fakes):
        loss, on_real, on_fake, *others = losses(self, batch, fakes)
        return 0 * loss + softplus(-on_real).mean() + softplus(on_fake).mean(), on_real, on_fake, *others

    monkeypatch.setattr(type(game), "losses_of_D", forgetful)
    of_G, of_D = errors("few_step", game, game.draw())
    assert of_G < 1e-10
    assert of_D > 1e-2


def test_one_pass_is_refused_where_a_recipe_says_that_it_is_not_exact():
    game = game_of("pix2pix")
    assert "one_stage" not in game.schemes
    assert "PatchGAN" in game.not_exact
    grey, colours = game.draw()
    leaf = osgan.tap(game.G(grey))
    real, fake = game.D(torch.cat([grey, colours], 1)), game.D(torch.cat([grey, leaf], 1))
    losses = softplus(-real).mean() + softplus(fake).mean(), softplus(-fake).mean()
    with pytest.raises(osgan.InputError, match="logits a sample"):
        osgan.backward(leaf, *losses, logits=(real, fake))


def test_the_distilled_generators_steps_are_those_of_its_authors_loop():
    """They take both gradients at the same weights and images: with the same noise one stage is that step."""
    game = game_of("few_step")
    found = []
    for scheme in ("two_stage", "one_stage"):
        arm = copy.deepcopy(game)
        torch.manual_seed(1)
        getattr(arm, scheme)()
        found.append([torch.cat([p.grad.flatten() for p in weights(optimizer)]) for optimizer in optimizers(arm)])
    for theirs, mine in zip(*found, strict=True):
        assert (theirs - mine).norm() <= 1e-10 * theirs.norm()


@pytest.mark.parametrize("name", RECIPES)
def test_every_scheme_moves_every_network(name):
    game = game_of(name)
    for scheme in game.schemes:
        arm = copy.deepcopy(game)
        before = [copy.deepcopy(network) for network in arm.players()]
        getattr(arm, scheme)()
        for old, new in zip(before, arm.players(), strict=True):
            assert all(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
            assert all(p.requires_grad for p in new.parameters())


@pytest.mark.parametrize("name", RECIPES)
def test_what_it_prints(name, capsys, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(sys, "argv", [name, "--steps", "2"])
    ran = runpy.run_path(str(EXAMPLES / f"{name.replace('.', '/')}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert all(scheme in out for scheme in ran["Game"].schemes)
    assert "FLOPs" in out


def dcgan(change=lambda text: text):
    """Return the names of the one-stage loop, its text changed."""
    names = {"__name__": "one_stage"}
    exec(compile(change((DCGAN / "one_stage.py").read_text()), "one_stage.py", "exec"), names)
    return names


def with_group_norm(text):
    """Make the change that the docstring tells of."""
    before, after = "nn.BatchNorm2d(out), nn.LeakyReLU", "nn.GroupNorm(4, out), nn.LeakyReLU"
    assert before in text
    assert "errD_fake, errG)" in text
    text = text.replace(before, after)
    return text.replace("errD_fake, errG)", "errD_fake, errG, logits=(output_real, output_fake))")


@pytest.mark.parametrize("change", [lambda text: text, with_group_norm])
def test_the_dcgan_loop_takes_both_gradients_at_the_same_weights(change, monkeypatch):
    names = dcgan(change)
    real, networks, drawn = names["load"]()[:8].double(), [], []
    build, randn = names["build"], torch.randn

    def recorded(*shape):
        drawn.append(randn(*shape))
        return drawn[-1]

    names["load"] = lambda: real
    names["build"] = lambda: networks.append(build()) or networks[0]
    monkeypatch.setattr(torch, "randn", recorded)
    monkeypatch.setattr(torch.optim, "Adam", lambda weights, **_: torch.optim.SGD(weights, 1.0))
    torch.manual_seed(0)
    names["main"](epochs=1, batch_size=8)
    monkeypatch.undo()

    torch.manual_seed(0)
    names["DataLoader"](real, 8)
    netG, netD = build()
    fake = netG(drawn[0])
    p_real, p_fake = netD(real), netD(fake)
    pairs = ((netG, -p_fake.log().mean()), (netD, -p_real.log().mean() - (1 - p_fake).log().mean()))
    gradients = [torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for net, loss in pairs]
    for (net, _), moved, of_net in zip(pairs, networks[0], gradients, strict=True):
        steps = [(old - new).detach() for old, new in zip(net.parameters(), moved.parameters(), strict=True)]
        error = torch.cat([(s - g).flatten() for s, g in zip(steps, of_net, strict=True)]).norm()
        assert error <= 1e-10 * torch.cat([g.flatten() for g in of_net]).norm()


@pytest.mark.parametrize("name", ["two_stage", "one_stage"])
def test_both_dcgan_loops_train(name, capsys):
    torch.set_default_dtype(torch.float32)
    images = importlib.import_module(f"examples.dcgan.{name}").main(epochs=2, batch_size=16, images=32)
    assert images.shape == (64, 1, 32, 32)
    assert torch.isfinite(images).all()
    assert capsys.readouterr().out.count("Loss_D") == 2


def test_the_diff_is_that_of_the_two_dcgan_loops():
    names = ("two_stage.py", "one_stage.py")
    before, after = ((DCGAN / name).read_text().splitlines(keepends=True) for name in names)
    diff = list(difflib.unified_diff(before, after, *names))
    # a wanted change: diff -u --label two_stage.py --label one_stage.py two_stage.py one_stage.py > dcgan.diff
    assert (DCGAN / "dcgan.diff").read_text() == "".join(diff)
    code = list(difflib.unified_diff(*(text[text.index('"""\n') + 1 :] for text in (before, after)), n=0))[2:]
    assert sum(line.startswith("-") for line in code) == 7
    assert sum(line.startswith("+") and line.strip() != "+" for line in code) == 6
