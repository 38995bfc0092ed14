"""The recipes of several losses: a step's gradients are those of two separate losses, taken by plain autograd."""

import copy
import importlib
import sys

import pytest
import torch
from torch import nn

import osgan
from examples.compare import compare

TINY = {
    "vocoder": {"batch_size": 2, "segment": 512, "clips": 2, "width": 16},
    "vqgan": {"batch_size": 3, "width": 8, "d_width": 4, "codes": 16},
    "super_resolution": {"batch_size": 2, "size": 32, "width": 8, "blocks": 1, "d_width": 4},
}
SCHEMES = ("two_stage", "two_stage_reused_frozen", "simultaneous")


@pytest.fixture(params=TINY)
def name(request):
    return request.param


@pytest.fixture
def example(name):
    return importlib.import_module(f"examples.{name}")


@pytest.fixture
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def game_of(name, example):
    torch.manual_seed(0)
    game = example.Game(**TINY[name])
    if name == "vqgan":  # codes that differ, so that the codebook is felt
        nn.init.normal_(game.G.quantiser.codebook)
    return game


def vocoder_reference(game, sound, G, for_d, for_g):
    mel = game.mel(sound)
    made = G(mel)
    d_loss = 0
    for D in for_d:
        d_loss = d_loss + (D(sound)[-1] - 1).square().mean() + D(made.detach())[-1].square().mean()
    g_loss = 45 * (game.mel(made) - mel).abs().mean()
    for D in for_g:
        of_real, of_fake = D(sound), D(made)
        g_loss = g_loss + (of_fake[-1] - 1).square().mean()
        g_loss = g_loss + 2 * sum((b - a.detach()).abs().mean() for a, b in zip(of_real, of_fake, strict=True))
    return d_loss, g_loss


def vqgan_reference(game, images, G, for_d, for_g):
    codes = G.encoder(images)
    rows = codes.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
    book = G.quantiser.codebook
    nearest = book[(rows[:, None] - book).square().sum(-1).argmin(1)]
    codebook = (nearest - rows.detach()).square().mean() + 0.25 * (rows - nearest.detach()).square().mean()
    through = rows + (nearest - rows).detach()
    made = G.decoder(through.reshape(codes.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2))
    d_loss = ((1 - for_d(images)).clamp_min(0).mean() + (1 + for_d(made.detach())).clamp_min(0).mean()) / 2
    reconstruction = (made - images).abs().mean()
    for_g(images)
    adversarial = -for_g(made).mean()
    last = G.decoder[-1].weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)]
    weight = 0.1 * (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4)
    return d_loss, reconstruction + codebook + weight * adversarial


def super_resolution_reference(game, batch, G, for_d, for_g):
    large, small = batch
    made = G(small)
    probability = [torch.sigmoid(for_d(images)) for images in (large, made.detach())]
    d_loss = -probability[0].log().mean() - (1 - probability[1]).log().mean()
    g_loss = (made - large).abs().mean()
    for a, b in zip(game.perception(large), game.perception(made), strict=True):
        g_loss = g_loss + 0.01 * (a - b).abs().mean()
    for_g(large)
    return d_loss, g_loss - 0.1 * torch.sigmoid(for_g(made)).log().mean()


REFERENCES = {
    "vocoder": vocoder_reference,
    "vqgan": vqgan_reference,
    "super_resolution": super_resolution_reference,
}


def reference_of(name, game, batch):
    """Return the gradients of both losses; either sees a D of its own, so that what moves in D moves alike for both."""
    G, for_d, for_g = copy.deepcopy(game.G), copy.deepcopy(game.D), copy.deepcopy(game.D)
    d_loss, g_loss = REFERENCES[name](game, batch, G, for_d, for_g)
    of_g = torch.autograd.grad(g_loss, list(G.parameters()))
    return of_g, torch.autograd.grad(d_loss, list(for_d.parameters()))


def filled(game, batch):
    """Return the gradients that `fill` leaves; the game's own networks stay as they are."""
    game = copy.copy(game)
    game.G, game.D = copy.deepcopy(game.G), copy.deepcopy(game.D)
    game.fill(batch)
    return tuple([p.grad for p in player.parameters()] for player in game.players())


def error(mine, reference):
    mine = [torch.zeros_like(r) if g is None else g for g, r in zip(mine, reference, strict=True)]
    mine, reference = (torch.cat([g.flatten() for g in of]) for of in (mine, reference))
    return ((mine - reference).norm() / reference.norm()).item()


@pytest.mark.usefixtures("_float64")
def test_gradients_are_those_of_two_losses(name, example):
    game = game_of(name, example)
    batch = game.draw()
    of_g, of_d = reference_of(name, game, batch)
    my_g, my_d = filled(game, batch)
    assert my_g[0].dtype == torch.float64
    assert error(my_g, of_g) <= 1e-10
    assert error(my_d, of_d) <= 1e-10


def left_out(*given, extra, **options):
    osgan.passes.backward(*given, **options)


def twice(*given, extra, **options):
    osgan.passes.backward(*given, extra=[extra, extra], **options)


def unweighted(*given, weight, **options):
    osgan.passes.backward(*given, **options)


def one_d_forgotten(example, game, monkeypatch):
    all_of = example.g_loss
    monkeypatch.setattr(example, "g_loss", lambda real, fake: all_of(real[1:], fake[1:]))


def no_matching(example, game, monkeypatch):
    monkeypatch.setattr(example, "MATCHING_WEIGHT", 0.0)


def corrupted_backward(broken):
    def corrupt(example, game, monkeypatch):
        # a module's name for the package, so that the package itself stays whole
        monkeypatch.setattr(example, "osgan", type("Broken", (), {"tap": osgan.tap, "backward": staticmethod(broken)}))

    return corrupt


CORRUPTIONS = [
    *((name, f"extra {how.__name__}", corrupted_backward(how)) for name in TINY for how in (left_out, twice)),
    ("vqgan", "weight 1", corrupted_backward(unweighted)),
    ("vocoder", "no feature matching", no_matching),
    ("vocoder", "one D forgotten", one_d_forgotten),
]


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    ("name", "corrupt"), [(n, c) for n, _, c in CORRUPTIONS], ids=[f"{n}: {w}" for n, w, _ in CORRUPTIONS]
)
def test_what_is_broken_is_seen(name, corrupt, monkeypatch):
    example = importlib.import_module(f"examples.{name}")
    game = game_of(name, example)
    batch = game.draw()
    of_g, _ = reference_of(name, game, batch)
    corrupt(example, game, monkeypatch)
    my_g, _ = filled(game, batch)
    assert error(my_g, of_g) > 1e-3


@pytest.mark.usefixtures("_float64")
def test_a_forgotten_d_is_seen_in_its_own_gradients():
    example = importlib.import_module("examples.vocoder")
    game = game_of("vocoder", example)
    sound = game.draw()
    _, of_d = reference_of("vocoder", game, sound)
    game.look = lambda sound, D=game.D: [one(sound) for one in D[1:]]
    game.fill(sound)
    assert error([p.grad for p in game.D.parameters()], of_d) > 1e-3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_moves_every_weight(name, example, scheme):
    game = game_of(name, example)
    assert game.schemes == SCHEMES
    before = [{key: p.detach().clone() for key, p in player.named_parameters()} for player in game.players()]
    getattr(game, scheme)()
    for player, old in zip(game.players(), before, strict=True):
        still = [key for key, p in player.named_parameters() if torch.equal(p, old[key])]
        # hinge pulls a D's last bias both ways alike until a score passes the margin
        assert still in ([], ["8.bias"] if name == "vqgan" else [])
        assert all(p.requires_grad for p in player.parameters())


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("name", ["vqgan", "super_resolution"])
def test_where_g_moves_first_the_reused_two_stage_step_is_ours(name):
    """D's loss is taken at the D that G's was: but for the power iteration, the same step."""
    example = importlib.import_module(f"examples.{name}")
    games = {scheme: game_of(name, example) for scheme in SCHEMES[1:]}
    for scheme, game in games.items():
        for module in game.D.modules():
            if isinstance(module, nn.utils.parametrizations._SpectralNorm):
                module.eval()
        torch.manual_seed(1)
        getattr(game, scheme)()
    theirs, mine = ([*game.players()[0].parameters(), *game.players()[1].parameters()] for game in games.values())
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-7)


def test_what_it_prints(name, example, monkeypatch, capsys, tmp_path):
    class Tiny(example.Game):
        def __init__(self):
            super().__init__(**TINY[name])

    monkeypatch.setattr(sys, "argv", [name, "--steps", "2", "--figure", str(tmp_path / "figure.png")])
    found = compare(Tiny, name)
    out = capsys.readouterr().out
    assert all(scheme in out for scheme in SCHEMES)
    assert (tmp_path / "figure.png").stat().st_size > 0
    values = [value for rows in found.values() for row in rows for value in row.values()]
    assert all(torch.isfinite(torch.tensor(value)) for value in values)


def test_judging_moves_nothing(name, example):
    game = game_of(name, example)
    before = copy.deepcopy([player.state_dict() for player in game.players()])
    assert game.judge() == game.judge()
    for player, old in zip(game.players(), before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in player.state_dict().items())
        assert player.training
