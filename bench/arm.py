"""An arm: one scheme of one case with networks, optimizers, data order and random state of its own."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.suite import Adam, Case
from osgan.data import Dataset
from osgan.errors import NonFiniteLossError
from osgan.nets import Networks
from osgan.regularizers import parse_loss
from osgan.schemes import build_scheme
from osgan.step import StepStats


class SchemeArm:
    """Trains the networks given, which are its own from then on, by one scheme; satisfies `bench.measure.Arm`."""

    def __init__(
        self, case: Case, scheme: str, networks: Networks, dataset: Dataset, optimizer: Adam, seed: int
    ) -> None:
        self.case = case
        self.dataset = dataset
        self.networks = networks
        self.seed = seed
        loss, regularizers = parse_loss(case.loss)
        generator, discriminator = networks.generator, networks.discriminator
        self.optimizers = (
            torch.optim.Adam(generator.parameters(), optimizer.generator_lr, optimizer.betas),
            torch.optim.Adam(discriminator.parameters(), optimizer.discriminator_lr, optimizer.betas),
        )
        self.scheme = build_scheme(
            scheme,
            generator,
            discriminator,
            *self.optimizers,
            loss=loss,
            latent=networks.latent,
            regularizers=regularizers,
        )
        self._start()
        self.scheme.prepare(*self.batch())
        self._start()

    def snapshot(self) -> list[Any]:
        """Return copies of the weights and of the optimizers' states, for `restart`."""
        return copy.deepcopy([part.state_dict() for part in self._parts()])

    def restart(self, snapshot: list[Any]) -> None:
        """Go back to the first step: weights and optimizers as they were, data order and random state from the seed."""
        for part, state in zip(self._parts(), snapshot, strict=True):
            part.load_state_dict(state)
        self._start()

    def _start(self) -> None:
        self.batches = self.dataset.batches(self.case.batch_size, seed=self.seed)
        torch.manual_seed(self.seed)
        self.random_state = _random_state(self.dataset.device)
        self.steps_done = 0
        self.pending: list[StepStats] = []

    def run(self, steps: int) -> None:
        """Take that many steps; waits for nothing on the device."""
        for _ in range(steps):
            real, labels = self.batch()
            self.pending.append(self.scheme.step(real, labels))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Give the arm its random state for a visit; afterwards check its losses and name the first bad step."""
        _set_random_state(self.dataset.device, self.random_state)
        yield
        self.random_state = _random_state(self.dataset.device)
        losses = torch.stack([torch.stack(stats) for stats in self.pending]).tolist()
        first = self.steps_done
        self.steps_done += len(self.pending)
        self.pending = []
        for offset, pair in enumerate(losses):
            for name, value in zip(StepStats._fields, pair, strict=True):
                if value - value != 0:
                    raise NonFiniteLossError(
                        f"{name} of {self.case.loss} is {value} at step {first + offset + 1}; lower the learning rates "
                        "or regularize the discriminator"
                    )

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Return n images (n, C, H, W) in [-1, 1] from G in evaluation mode; the latents depend on the seed alone."""
        generator = self.networks.generator.eval()
        torch.manual_seed(self.seed)
        latents = self.networks.latent(n, self.dataset.device)
        labels = (torch.arange(n, device=self.dataset.device) % (self.networks.num_classes or 1),)
        images: Tensor = generator(latents, *(labels if self.networks.num_classes else ()))
        generator.train()
        return images

    def batch(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Draw the next batch; labels only for networks that take them."""
        real, labels = next(self.batches)
        return real, () if labels is None or self.networks.num_classes is None else (labels,)

    def _parts(self) -> tuple[torch.nn.Module | torch.optim.Optimizer, ...]:
        return (self.networks.generator, self.networks.discriminator, *self.optimizers)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
