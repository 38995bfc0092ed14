"""D's structure is that of the D that is stepped: its mode, its randomness, what it becomes later, and no evidence."""

import random

import pytest
import torch
from reference import gradients_of, make_discriminator, make_networks, make_real, make_scheme, relative_error
from torch import nn

import osgan
from osgan.errors import InputError, InputWarning, NotExactError
from osgan.structure import measure_structure


def test_batch_norm_that_goes_back_to_train_mode_is_refused():
    scheme = make_scheme("one_stage", *make_networks("batch"), "hinge")
    scheme.discriminator.eval()
    with pytest.warns(InputWarning, match="evaluation mode"):
        scheme(make_real())
    scheme.discriminator.train()
    with pytest.raises(NotExactError, match="mixes samples"):
        scheme(make_real())


@pytest.mark.parametrize("loss", ["minimax", "wgan"])
def test_and_no_longer_shares_a_batch_under_a_symmetric_loss(loss):
    networks = make_networks("batch")
    mine, theirs = (make_scheme(name, *networks, loss) for name in ("one_stage", "simultaneous"))
    real, found = make_real(), []
    for scheme in (mine, theirs):
        scheme.discriminator.eval()
        with pytest.warns(InputWarning, match="evaluation mode"):
            scheme(real)
        scheme.discriminator.train()
        torch.manual_seed(1)
        scheme(real)
        found.append([g.clone() for network in networks for g in gradients_of(network)])
    assert relative_error(*found) <= 1e-10


def test_one_layer_that_changes_its_mode_is_noticed():
    scheme = make_scheme("one_stage", *make_networks("batch"), "hinge")
    scheme.discriminator[3].eval()
    scheme(make_real())
    scheme.discriminator.train()
    with pytest.raises(NotExactError):
        scheme(make_real())


def test_what_was_measured_in_a_mode_is_not_measured_again(monkeypatch):
    scheme = make_scheme("one_stage", *make_networks("batch"), "minimax")
    measured = []
    measure = scheme._measure
    monkeypatch.setattr(scheme, "_measure", lambda *given: measured.append(1) or measure(*given))
    for training in (True, False, True, False):
        scheme.discriminator[3].train(training)
        scheme(make_real())
    assert len(measured) == 2


class Mixes(nn.Module):
    """Mix neighbours of the batch with some probability, drawn by PyTorch or by Python."""

    def __init__(self, probability, draw):
        super().__init__()
        self.layers = make_discriminator()
        self.probability, self.draw = probability, draw

    def forward(self, x):
        if self.training and self.draw() < self.probability:
            x = 0.7 * x + 0.3 * x.roll(1, 0)
        return self.layers(x)


@pytest.mark.parametrize("draw", [lambda: torch.rand(()).item(), random.random], ids=["torch", "python"])
@pytest.mark.parametrize("seed", range(3))
def test_a_discriminator_that_mixes_half_of_the_time_is_found(draw, seed):
    torch.manual_seed(seed)
    random.seed(seed)
    discriminator = Mixes(0.5, draw)
    state, of_python = torch.get_rng_state(), random.getstate()
    structure = measure_structure(discriminator, torch.rand(6, 2, 8, 8) * 2 - 1)
    assert not structure.sample_wise
    assert random.getstate() == of_python
    torch.manual_seed(seed)
    assert measure_structure(discriminator.eval(), make_real(torch.float32)).sample_wise
    assert state is not None


class Neighbour(nn.Module):
    """Row i depends on row i - k, and row 0 on itself alone."""

    def __init__(self, k):
        super().__init__()
        self.layers, self.k = make_discriminator(), k

    def forward(self, x):
        logits = self.layers(x)
        return logits + 0.1 * torch.cat([torch.zeros_like(logits[: self.k]), logits[: -self.k]])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_mixing_is_seen_from_every_row(k):
    assert not measure_structure(Neighbour(k), make_real(torch.float32, batch=8)).sample_wise


class Grows(nn.Module):
    """A discriminator with a layer that is switched on later, as progressive growing does."""

    def __init__(self):
        super().__init__()
        self.layers, self.mix = make_discriminator(), False

    def forward(self, x):
        return self.layers(x - x.mean(0) if self.mix else x)


def test_what_changes_later_can_be_asked_for():
    generator, _ = make_networks()
    scheme = make_scheme("one_stage", generator, Grows().double(), "hinge")
    scheme(make_real())
    scheme.discriminator.mix = True
    with pytest.raises(NotExactError, match="mixes samples"):
        scheme.prepare(make_real())


class Applies(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layers, self.function = make_discriminator(), function

    def forward(self, x):
        return self.function(self.layers, x)


NO_EVIDENCE = {
    "saturated": lambda layers, x: layers(x).clamp(1e9, 2e9),
    "nan": lambda layers, x: layers(x) * float("nan"),
    "infinite": lambda layers, x: layers(x) * float("inf"),
}


@pytest.mark.parametrize("name", NO_EVIDENCE)
def test_no_evidence_is_no_structure(name):
    generator, _ = make_networks()
    discriminator = Applies(NO_EVIDENCE[name]).double()
    structure = measure_structure(discriminator, make_real())
    assert structure.cross_sample is None
    assert not structure.sample_wise
    with pytest.raises(NotExactError, match="nothing is known of the discriminator") as caught:
        make_scheme("one_stage", generator, discriminator, "hinge")(make_real())
    assert "mixes samples" not in str(caught.value)
    assert make_scheme("one_stage", generator, discriminator, "wgan").prepare(make_real()) is None


def test_probes_are_like_the_real_images():
    """The root of what is never negative is no number on normal noise, and sample-wise all the same."""
    discriminator = Applies(lambda layers, x: layers(x.sqrt()))
    structure = measure_structure(discriminator, torch.rand(6, 2, 8, 8) + 0.01)
    assert structure.sample_wise


class DetachedStatistics(nn.Module):
    """Normalise by statistics of the batch that carry no gradient: the scores mix, their gradients do not."""

    def __init__(self):
        super().__init__()
        self.layers = make_discriminator()

    def forward(self, x):
        return self.layers((x - x.mean(0).detach()) / x.std(0).detach())


def test_scores_that_move_without_a_gradient_keep_real_and_fake_apart():
    structure = measure_structure(DetachedStatistics(), make_real(torch.float32))
    assert structure.sample_wise
    assert structure.mixes_scores
    assert not structure.can_share_a_batch
    generator, _ = make_networks()
    discriminator = DetachedStatistics().double()
    mine, theirs = (
        make_scheme(name, generator, discriminator, "nonsaturating") for name in ("one_stage", "simultaneous")
    )
    real, found = make_real(), []
    for scheme in (mine, theirs):
        torch.manual_seed(3)
        scheme(real)
        found.append([g.clone() for network in (generator, discriminator) for g in gradients_of(network)])
    assert relative_error(*found) <= 1e-10


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_does_not_look_like_mixing(dropout):
    discriminator = nn.Sequential(nn.Dropout(dropout), make_discriminator())
    assert measure_structure(discriminator, make_real(torch.float32)).can_share_a_batch


class Groups(nn.Module):
    """Insists on batches of whole groups of six."""

    def __init__(self):
        super().__init__()
        self.layers = make_discriminator()

    def forward(self, x):
        return self.layers(x.view(-1, 6, *x.shape[1:]).flatten(0, 1))


def test_a_discriminator_that_insists_on_the_size_of_the_batch():
    assert measure_structure(Groups(), make_real(torch.float32, batch=6)).sample_wise


@pytest.mark.parametrize("mode", [True, False])
def test_a_loop_notices_the_mode_too(mode):
    from loops import Repeat

    networks = make_networks("batch")
    networks[1][3].train(mode)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in networks]
    step = osgan.OneStage(*networks, *optimizers, loss="minimax", latent=osgan.Gaussian(4, torch.float64))
    loop = osgan.Loop(step, Repeat(torch.float64))
    assert step.structure.sample_wise is not mode
    networks[1][3].train(not mode)
    loop.step()
    assert step.structure.sample_wise is mode


def test_a_loop_that_would_no_longer_be_exact_is_refused():
    from loops import Repeat

    networks = make_networks("batch")
    networks[1][3].eval()
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in networks]
    step = osgan.OneStage(*networks, *optimizers, loss="hinge", latent=osgan.Gaussian(4, torch.float64))
    loop = osgan.Loop(step, Repeat(torch.float64))
    loop.step()
    networks[1].train()
    with pytest.raises(InputError, match="mixes samples"):
        loop.step()
