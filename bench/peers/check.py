"""Do their steps and ours take the same gradients? Asked before anything is timed, on their networks."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.peers.arms import Feed
from bench.peers.peer import PeerCase, Theirs
from osgan.building import build_scheme
from osgan.latent import Latent
from osgan.regularizers import parse_loss
from osgan.structure import Structure

SEED = 0


def compare(case: PeerCase, real: Tensor) -> list[dict[str, Any]]:
    """Compare every step of theirs with the scheme of ours that does the same, from the same weights and latents.

    Errors are relative, in the Euclidean norm over all weights of a network; None where a side is not finite. After
    two stages the weights of D hold its own gradient and what G's pass left there, on both sides.
    """
    return [
        _row(case, arm, theirs, real, shift)
        for arm, theirs in case.theirs.items()
        for shift in dict.fromkeys((0.0, case.shift if theirs.scheme == "one_stage" else 0.0))
    ]


def _row(case: PeerCase, arm: str, theirs: Theirs, real: Tensor, shift: float) -> dict[str, Any]:
    its, mine = _theirs(theirs, real, shift), _ours(case, theirs, real, shift)
    errors = [_relative_error(m, i) for m, i in zip(mine, its, strict=True)]
    return {
        "theirs": arm,
        "ours": theirs.scheme,
        "logits_lowered_by": shift,
        "generator_error": errors[0],
        "discriminator_error": errors[1],
        "theirs_finite": all(bool(gradient.isfinite().all()) for gradient in its),
        "ours_finite": all(bool(gradient.isfinite().all()) for gradient in mine),
    }


def _theirs(theirs: Theirs, real: Tensor, shift: float) -> tuple[Tensor, Tensor]:
    G, D = theirs.generator, theirs.discriminator
    with _undone(G, D):
        _lower(D, shift)
        batch = real, torch.zeros(len(real), dtype=torch.int64, device=real.device)
        torch.manual_seed(SEED)
        theirs.loop(G, D, _still(G), _still(D), Feed(iter([batch]), 1, len(real)))
        return _gradient(G), _gradient(D)


def _ours(case: PeerCase, theirs: Theirs, real: Tensor, shift: float) -> tuple[Tensor, Tensor]:
    networks = copy.deepcopy((case.generator, case.discriminator))
    _lower(networks[1], shift)
    loss, _ = parse_loss(case.loss)  # without regularizers: clipping moves D between the two updates
    scheme = build_scheme(
        theirs.scheme, *networks, *map(_still, networks), loss=loss, latent=_OnHost(case.latent, case.latents_on_host)
    )
    # real and fake apart, as theirs: the same number of spectral-norm iterations
    scheme.structure = Structure(logits_per_image=1, cross_sample=float("inf"))
    torch.manual_seed(SEED)
    scheme.step(real, ())
    return _gradient(networks[0]), _gradient(networks[1])


class _OnHost:
    """Draws the latents on the host where they do, so that both sides get the same ones."""

    def __init__(self, latent: Latent, on_host: bool) -> None:
        self.latent = latent
        self.on_host = on_host

    def __call__(self, n: int, device: torch.device) -> Tensor:
        return self.latent(n, torch.device("cpu") if self.on_host else device).to(device)


def _still(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=0.0)


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


def _gradient(network: nn.Module) -> Tensor:
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients]).double()


def _relative_error(mine: Tensor, its: Tensor) -> float | None:
    error = ((mine - its).norm() / its.norm()).item()
    return error if error - error == 0 else None
