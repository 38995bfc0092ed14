"""osgan.backward amid what loops do: frozen weights, accumulation, clipping, autocast, compilation, checkpointing, EMA.

Each against plain autograd doing the same with two gradients at the same weights.
"""

import copy

import pytest
import torch
from reference import EXACT, TEXTBOOK, Generator, make_discriminator, make_networks, make_real, relative_error
from test_passes import errors, l1, latents, plain, step
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import osgan

BOTH = pytest.mark.parametrize("logits", [False, True])


def both_gradients(networks, loss, real, z, *, more=lambda fake, real: 0.0):
    """Fill `.grad` of both players by plain autograd, adding to what is there."""
    G, D = networks
    d_loss, g_loss = plain(loss, real, z, more=more)(G, D)
    for network, total in ((D, d_loss), (G, g_loss)):
        weights = [p for p in network.parameters() if p.requires_grad]
        for p, gradient in zip(weights, torch.autograd.grad(total, weights, retain_graph=True), strict=True):
            p.grad = gradient if p.grad is None else p.grad + gradient


def apart(networks, reference):
    """Return the largest relative distance of two pairs of networks in what `.grad` holds."""
    mine, theirs = ([p.grad for n in pair for p in n.parameters()] for pair in (networks, reference))
    assert [g is None for g in mine] == [g is None for g in theirs]
    return relative_error([g for g in mine if g is not None], [g for g in theirs if g is not None])


@BOTH
def test_frozen_weights_get_no_gradient(logits):
    networks = make_networks("group")
    for p in (networks[1][0].weight, networks[0].layers[0].bias):
        p.requires_grad_(False)
    step("hinge", make_real(), latents(), logits=logits)(*networks)
    assert networks[1][0].weight.grad is None
    assert networks[0].layers[0].bias.grad is None
    assert networks[1][0].bias.grad is not None


@BOTH
def test_a_frozen_first_half_of_d(logits):
    real, z = make_real(), latents()
    networks = make_networks("group")
    networks[1][0].requires_grad_(False)
    reference = copy.deepcopy(networks)
    step("lsgan", real, z, logits=logits)(*networks)
    both_gradients(reference, "lsgan", real, z)
    assert apart(networks, reference) <= 1e-10


@BOTH
@pytest.mark.parametrize("loss", ["nonsaturating", "wgan", "rpgan"])
def test_gradients_of_micro_batches_add_up(loss, logits):
    networks = make_networks("group")
    reference = copy.deepcopy(networks)
    for part in range(3):
        torch.manual_seed(part)
        real, z = make_real(), torch.randn(6, 4, dtype=torch.float64)
        step(loss, real, z, logits=logits, extra=l1)(*networks)
        both_gradients(reference, loss, real, z, more=l1)
    assert apart(networks, reference) <= 1e-10


@BOTH
def test_each_player_is_clipped_and_steps_on_its_own(logits):
    real, z = make_real(), latents()
    networks = make_networks("group")
    reference = copy.deepcopy(networks)
    step("hinge", real, z, logits=logits)(*networks)
    both_gradients(reference, "hinge", real, z)
    for pair in (networks, reference):
        for network, limit in zip(pair, (1e-3, 1e-2), strict=True):
            norm = nn.utils.clip_grad_norm_(network.parameters(), limit)
            assert norm > limit
            torch.optim.Adam(network.parameters(), 1e-3, (0.0, 0.9)).step()
    mine, theirs = ([p for n in pair for p in n.parameters()] for pair in (networks, reference))
    assert relative_error(mine, theirs) <= 1e-10


@BOTH
def test_averages_of_the_weights(logits):
    """The moving average's own copy of G is in nobody's graph."""
    real, z = make_real(), latents()
    networks = make_networks("group")
    reference = copy.deepcopy(networks)
    averages = []
    fills = step("hinge", real, z, logits=logits), lambda *players: both_gradients(players, "hinge", real, z)
    for pair, fill in zip((networks, reference), fills, strict=True):
        average = AveragedModel(pair[0], multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        optimizers = [torch.optim.SGD(n.parameters(), 0.1) for n in pair]
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.zero_grad()
            fill(*pair)
            for optimizer in optimizers:
                optimizer.step()
            average.update_parameters(pair[0])
        averages.append([p for p in average.parameters() if p.is_floating_point()])
    assert relative_error(*averages) <= 1e-10


@BOTH
@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "wgan"])
def test_autocast_to_bfloat16(loss, logits):
    """As far from plain autograd under autocast as two orders of the same roundings are."""
    real, z = make_real(torch.float32), latents(torch.float32)
    networks = make_networks("group", dtype=torch.float32)
    reference, exact = copy.deepcopy(networks), copy.deepcopy(networks)
    with torch.autocast("cpu", torch.bfloat16):
        step(loss, real, z, logits=logits)(*networks)
        both_gradients(reference, loss, real, z)
    both_gradients(exact, loss, real, z)
    assert 1e-4 < apart(reference, exact) < 5e-2, "autocast did nothing"
    assert apart(networks, reference) <= 2e-2
    assert apart(networks, exact) <= 2 * apart(reference, exact)


@BOTH
@pytest.mark.parametrize("scales", [(2.0**16, 2.0**16), (2.0**10, 2.0**14)])
def test_a_scaler_for_each_player(scales, logits):
    """Losses go in scaled; gradients come out scaled, each by its own player's factor."""
    real, z = make_real(), latents()
    networks = make_networks("group")
    reference = copy.deepcopy(networks)
    both_gradients(reference, "nonsaturating", real, z, more=l1)
    scalers = [torch.amp.GradScaler("cpu", init_scale=scale) for scale in scales]
    optimizers = [torch.optim.SGD(n.parameters(), 0.1) for n in networks]
    G, D = networks
    fake = G(z)
    leaf = osgan.tap(fake)
    r, f = D(real), D(leaf)
    of_d, of_g = TEXTBOOK["nonsaturating"]
    osgan.backward(
        leaf,
        scalers[1].scale(of_d(r, f)),
        scalers[0].scale(of_g(r, f)),
        extra=scalers[0].scale(l1(fake, real)),
        logits=(r, f) if logits else None,
    )
    for scaler, optimizer in zip(scalers, optimizers, strict=True):
        scaler.unscale_(optimizer)
    assert apart(networks, reference) <= 1e-10
    weights = [p.detach().clone() for p in G.parameters()]
    for scaler, optimizer in zip(scalers, optimizers, strict=True):
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(
        [a - 0.1 * p.grad for a, p in zip(weights, G.parameters(), strict=True)], [*G.parameters()]
    )


class Checkpointed(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return checkpoint(self.network, x, use_reentrant=False)


@BOTH
@pytest.mark.parametrize("loss", ["hinge", "wgan"])
def test_activation_checkpointing(loss, logits):
    real, z = make_real(), latents()
    networks = tuple(Checkpointed(n).double() for n in (Generator(), make_discriminator("group")))
    assert max(errors(networks, step(loss, real, z, logits=logits), plain(loss, real, z))) <= 1e-10


@pytest.fixture
def kept_buffers():
    """What a loop of two passes asks of torch.compile: that its backward pass can be gone twice."""
    torch._dynamo.reset()
    with torch._functorch.config.patch(donated_buffer=False):
        yield


@BOTH
@pytest.mark.usefixtures("kept_buffers")
def test_compiled_networks(logits):
    real, z = make_real(torch.float32), latents(torch.float32)
    networks = make_networks("group", dtype=torch.float32)
    reference = copy.deepcopy(networks)
    compiled = [torch.compile(n, backend="aot_eager") for n in networks]
    mine = step("nonsaturating", real, z, logits=logits)
    for _ in range(3):
        for network in networks:
            network.zero_grad()
        mine(*compiled)
    both_gradients(reference, "nonsaturating", real, z)
    assert apart(networks, reference) <= EXACT[torch.float32]
    assert mine.did.passes == 2 - logits


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler's own look
@pytest.mark.usefixtures("kept_buffers")
def test_a_step_that_is_compiled_whole():
    """One graph of D and both losses can go backward twice; what is no longer apart in it is not asked of it."""
    real, z = make_real(torch.float32), latents(torch.float32)
    networks = make_networks("group", dtype=torch.float32)
    reference = copy.deepcopy(networks)
    of_d, of_g = TEXTBOOK["nonsaturating"]

    @torch.compile(backend="aot_eager")
    def fill(real, z, way):
        G, D = networks
        fake = G(z)
        leaf = osgan.tap(fake)
        r, f = D(real), D(leaf)
        extra = l1(fake, real) if way == "extra" else ()
        osgan.backward(leaf, of_d(r, f), of_g(r, f), extra=extra, logits=(r, f) if way == "logits" else None)

    fill(real, z, "")
    both_gradients(reference, "nonsaturating", real, z)
    assert apart(networks, reference) <= EXACT[torch.float32]
    for way in ("extra", "logits"):
        with pytest.raises(osgan.InputError, match="compile G and D alone"):
            fill(real, z, way)
