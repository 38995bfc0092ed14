"""Do their steps and ours take the same gradients? Asked before anything is timed, on their networks.

A gradient is what an optimizer is handed when it is to step: `Recorder` stands where each player's optimizer would.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils._pytree import tree_map

from bench.peers.arms import Feed
from bench.peers.peer import SEED, LoopCase, PeerCase, Players, Record, Steps, Theirs
from osgan.building import build_scheme
from osgan.latent import Latent
from osgan.regularizers import WeightClipping, parse_loss
from osgan.structure import Structure

LOSSES = "autograd of their losses"


class Recorder(torch.optim.SGD):
    """Moves nothing, and keeps the gradient it was to move by."""

    def __init__(self, network: nn.Module, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(network.parameters(), lr=0.0)
        self.network = network
        self.then = then
        self.gradient = _flat(self.network, [None for _ in network.parameters()])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Keep the gradient."""
        self.gradient = _flat(self.network, [p.grad for p in self.network.parameters()])
        self.then()


def compare(case: PeerCase, real: Tensor) -> list[Record]:
    """Compare every step of theirs with the scheme of ours that does the same, from the same weights and latents.

    Errors are relative, in the Euclidean norm over all weights of a network; None where a side is not finite.
    """
    return [
        _row(arm, theirs.scheme, _theirs(theirs, real, shift), _ours(case, theirs, real, shift), shift=shift)
        for arm, theirs in case.theirs.items()
        for shift in dict.fromkeys((0.0, case.shift if theirs.scheme == "one_stage" else 0.0))
    ]


def compare_loop(case: LoopCase) -> list[Record]:
    """Compare every arm of ours with their loop and with plain autograd of their losses, on one batch.

    In float64, which shows whether the functions are the same, and in float32, which shows by how much they are
    rounded apart. Spectral norm's power iteration stands still, since the sides call D in different numbers, and every
    player's fakes come from the same random state.
    """
    with _in_float64():
        rows = _compared(case, tree_map(_of_float64, case.batches[0]), "float64")
    with _in_float32():
        return rows + _compared(case, case.batches[0], "float32")


def _compared(case: LoopCase, batch: Any, precision: str) -> list[Record]:
    references = {"theirs": _of_loop(case, case.theirs, batch), LOSSES: _of_losses(case, batch)}
    mine = {arm: _of_loop(case, ours.steps, batch) for arm, ours in case.ours.items()}
    return [
        _row(name, arm, its, of_ours, precision=precision)
        for arm, of_ours in mine.items()
        for name, its in references.items()
    ]


Gradients = tuple[Tensor, Tensor]
"""Of G's and of D's weights."""


def _row(
    theirs: str, ours: str, its: Gradients, mine: Gradients, *, shift: float = 0.0, precision: str = "float32"
) -> Record:
    errors = [_relative_error(m, i) for m, i in zip(mine, its, strict=True)]
    return {
        "theirs": theirs,
        "ours": ours,
        "logits_lowered_by": shift,
        "precision": precision,
        "generator_error": errors[0],
        "discriminator_error": errors[1],
        "theirs_finite": all(bool(gradient.isfinite().all()) for gradient in its),
        "ours_finite": all(bool(gradient.isfinite().all()) for gradient in mine),
    }


def _theirs(theirs: Theirs, real: Tensor, shift: float) -> Gradients:
    G, D = theirs.generator, theirs.discriminator
    with _undone(G, D):
        _lower(D, shift)
        batch = real, torch.zeros(len(real), dtype=torch.int64, device=real.device)
        of_G, of_D = Recorder(G), Recorder(D)
        torch.manual_seed(SEED)
        theirs.loop(G, D, of_G, of_D, Feed(iter([batch]), 1, len(real)))
        return of_G.gradient, of_D.gradient


def _ours(case: PeerCase, theirs: Theirs, real: Tensor, shift: float) -> Gradients:
    G, D = copy.deepcopy((case.generator, case.discriminator))
    _lower(D, shift)
    loss, regularizers = parse_loss(case.loss)
    of_G, of_D = Recorder(G), Recorder(D)
    scheme = build_scheme(
        theirs.scheme,
        G,
        D,
        of_G,
        of_D,
        loss=loss,
        latent=_OnHost(case.latent, case.latents_on_host),
        # clipping would move D between the two updates
        regularizers=[term for term in regularizers if not isinstance(term, WeightClipping)],
    )
    # real and fake apart, as theirs: the same number of spectral-norm iterations
    scheme.structure = Structure(logits_per_image=1, cross_sample=float("inf"))
    torch.manual_seed(SEED)
    scheme.step(real, ())
    return of_G.gradient, of_D.gradient


def _of_loop(case: LoopCase, steps: Steps, batch: Any) -> Gradients:
    players = _still(case.start())

    def draw_again() -> None:
        torch.manual_seed(SEED)

    of_G, of_D = (Recorder(network, draw_again) for network in (players.generator, players.discriminator))
    draw_again()
    steps(replace(players, generator_optimizer=of_G, discriminator_optimizer=of_D), Feed(iter([batch]), 1, 1))
    return of_G.gradient, of_D.gradient


def _of_losses(case: LoopCase, batch: Any) -> Gradients:
    players = _still(case.start())
    torch.manual_seed(SEED)
    of_D, of_G = case.losses(players, batch)
    return _gradient(of_G, players.generator), _gradient(of_D, players.discriminator)


def _gradient(loss: Tensor, network: nn.Module) -> Tensor:
    """Return the gradient at all weights, 0 at those that are fixed; the graph is kept."""
    trained = [p for p in network.parameters() if p.requires_grad]
    found = iter(torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True))
    return _flat(network, [next(found) if p.requires_grad else None for p in network.parameters()])


def _still(players: Players) -> Players:
    for network in (players.generator, players.discriminator):
        for module in network.modules():
            for norm in (module, *module._forward_pre_hooks.values()):
                if isinstance(norm, SpectralNorm | _SpectralNorm):
                    norm.n_power_iterations = 0
    return players


class _OnHost:
    """Draws the latents on the host where they do, so that both sides get the same ones."""

    def __init__(self, latent: Latent, on_host: bool) -> None:
        self.latent = latent
        self.on_host = on_host

    def __call__(self, n: int, device: torch.device) -> Tensor:
        return self.latent(n, torch.device("cpu") if self.on_host else device).to(device)


@contextmanager
def _in_float64() -> Iterator[None]:
    """Let new tensors be float64, and what code that asks for .float() gets."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(Tensor, "float", Tensor.double):
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _in_float32() -> Iterator[None]:
    """Let a GPU multiply float32 as it is, not as TensorFloat-32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _of_float64(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


@torch.no_grad()
def _lower(discriminator: nn.Module, shift: float) -> None:
    if shift:
        *_, last_bias = discriminator.parameters()
        last_bias.sub_(shift)


@contextmanager
def _undone(*networks: nn.Module) -> Iterator[None]:
    states = [copy.deepcopy(network.state_dict()) for network in networks]
    yield
    for network, state in zip(networks, states, strict=True):
        network.load_state_dict(state)
        network.zero_grad()


def _flat(network: nn.Module, gradients: Any) -> Tensor:
    pairs = zip(network.parameters(), gradients, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).detach().flatten() for p, g in pairs])


def _relative_error(mine: Tensor, its: Tensor) -> float | None:
    its = its.double()
    error = ((mine.double() - its).norm() / its.norm()).item()
    return error if error - error == 0 else None
