"""The examples run, and their one-stage step takes the gradients of two separate backward passes."""

import importlib

import pytest
import torch

import osgan.passes

GAMES = ("dann", "adversarial_autoencoder")
SCHEMES = ("one_stage", "simultaneous", "two_stage_reused_frozen", "two_stage")
BROKEN = {
    "decompose": lambda carrier, generator, *_: (carrier, -generator / carrier),
    "constant_ratio": lambda *_: 1.0,  # the reversal left out
}


@pytest.fixture(params=GAMES)
def example(request):
    return importlib.import_module(f"examples.{request.param}")


@pytest.fixture
def _float64(monkeypatch):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def game_of(example):
    """Build the game in the default dtype, its data included."""
    game = example.Game(batch_size=8, weight=1.0)
    for name, value in vars(game).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            setattr(game, name, value.to(torch.get_default_dtype()))
    return game


@pytest.mark.usefixtures("_float64")
def test_gradients_are_those_of_two_separate_passes(example):
    game = game_of(example)
    mine, reference = (example.gradients(game, scheme) for scheme in ("one_stage", "simultaneous"))
    assert mine.dtype == torch.float64
    assert (mine - reference).norm() <= 1e-10 * reference.norm()


@pytest.mark.usefixtures("_float64")
def test_a_broken_ratio_is_seen(example, monkeypatch):
    game = game_of(example)
    reference = example.gradients(game, "simultaneous")
    for name, spoil in BROKEN.items():
        monkeypatch.setattr(osgan.passes, name, spoil)
    assert (example.gradients(game, "one_stage") - reference).norm() > 1e-3 * reference.norm()


def test_the_adversary_is_felt(example):
    """The reference is no reference if the adversarial term is too small to be seen."""
    game = example.Game(batch_size=8, weight=1.0)
    with_it = example.gradients(game, "one_stage")
    game.weight = 0.0
    without = example.gradients(game, "one_stage")
    assert (with_it - without).norm() > 1e-2 * without.norm()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_moves_every_network(example, scheme):
    game = example.Game(batch_size=8)
    weights = [p for group in (*game.optimizer.param_groups, *game.D_optimizer.param_groups) for p in group["params"]]
    before = [p.detach().clone() for p in weights]
    getattr(game, scheme)()
    assert all(not torch.equal(a, b) for a, b in zip(before, weights, strict=True))


def test_what_it_prints(example, capsys):
    example.main(steps=2)
    out = capsys.readouterr().out
    assert "relative error" in out
    assert all(scheme in out for scheme in SCHEMES)
