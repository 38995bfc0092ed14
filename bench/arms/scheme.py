"""An arm: one scheme of one case with networks, optimizers, data order and random state of its own."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from bench.probes.phases import phases_of
from bench.suite.cases import AXES, Case
from bench.suite.plans import Adam
from osgan.cost import Work, count_work
from osgan.data import Dataset
from osgan.nets import Networks
from osgan.parallel import processes
from osgan.step import StepStats
from osgan.training.engine import EngineWarning
from osgan.training.finite import finite_losses
from osgan.training.recipe import Recipe, build_loop
from osgan.training.sampling import sample


def recipe_of(case: Case, scheme: str, optimizer: Adam, seed: int) -> Recipe:
    """Return what an arm trains: the arms of a case differ in the scheme and in nothing else."""
    axes = {axis: getattr(case, axis) for axis in AXES} | {"batch_size": case.batch_size * case.world_size}
    axes |= {"augmentation": case.augmentation}
    return Recipe(**axes, **optimizer.model_dump(), scheme=scheme, seed=seed, ema_half_life=0)


class SchemeArm:
    """Trains the networks given, which are its own from then on, by one scheme; satisfies `bench.probes.timing.Arm`."""

    def __init__(
        self, case: Case, scheme: str, networks: Networks, dataset: Dataset, optimizer: Adam, seed: int
    ) -> None:
        self.case = case
        self.ran_as: str | None = None
        """The scheme that stands in for one that is not exact here, as the suite's `fallback` says."""
        self.ran_as_because: str | None = None
        self.dataset = dataset
        self.networks = networks
        self.seed = seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EngineWarning)  # the record says it
            self.loop = build_loop(recipe_of(case, scheme, optimizer, seed), networks, dataset)
        self.scheme = self.loop.scheme
        self._start()

    def snapshot(self) -> list[Tensor]:
        """Return copies of all that a step changes, for `restart`."""
        return [tensor.detach().clone() for tensor in self.loop.state()]

    @torch.no_grad()
    def restart(self, snapshot: list[Tensor]) -> None:
        """Go back to the first step, in place: weights and optimizers as they were, data and chance from the seed."""
        for tensor, value in zip(self.loop.state(), snapshot, strict=True):
            tensor.copy_(value)
        self.loop.batches.seek(0)
        self.scheme.num_steps = 0
        processes.manual_seed(self.seed)
        self._start()

    def _start(self) -> None:
        self.random_state = random_state(self.dataset.device)
        self.steps_done = 0
        self.pending: list[StepStats] = []

    def run(self, steps: int) -> None:
        """Take that many steps; waits for nothing on the device."""
        for _ in range(steps):
            self.pending.append(self.loop.step())

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Give the arm its random state for a visit; afterwards check its losses and name the first bad step."""
        with own_randomness(self, self.dataset.device):
            yield
        pending, first = self.pending, self.steps_done
        self.steps_done += len(pending)
        self.pending = []
        finite_losses(pending, first_step=first, loss=self.case.loss)

    @property
    def fallbacks(self) -> list[str]:
        """What the engine could not do here."""
        return self.loop.fallbacks

    @property
    def period(self) -> int:
        """Steps after which lazy regularizers are due again."""
        return self.scheme.period

    @property
    def images_per_step(self) -> int:
        """Real images that D is shown in a step, of this process."""
        return self.case.batch_size * self.scheme.n_critic

    def phases(self, device: torch.device, steps: int) -> dict[str, float]:
        """Return milliseconds a step by phase, over so many steps."""
        return phases_of(self, device, steps=steps)

    def prediction(self) -> dict[str, float]:
        """Return nothing: one process has nothing to reduce."""
        return {}

    def forget_graphs(self) -> None:
        """Make the next steps capture their graphs anew."""
        self.loop.forget_graphs()

    def count(self) -> Work:
        """Count a step as its scheme asks for it, whatever the engine."""
        with self.loop.plain():
            real, labels = self.loop.draw()
            return count_work(self.scheme, real, *labels)

    def real_images(self, n: int) -> Tensor:
        """Return n images of the data set, all of them if it has fewer."""
        images, _ = next(self.dataset.batches(min(n, self.dataset.num_images), seed=self.seed))
        return images

    def sample(self, n: int) -> Tensor:
        """Return n images (n, C, H, W) in [-1, 1] from G in evaluation mode; the latents depend on the seed alone."""
        return sample(self.networks, n, seed=self.seed, device=self.dataset.device)


def random_state(device: torch.device) -> Tensor:
    """Return the state of the device's random generator."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


class HasRandomState(Protocol):
    """What keeps a random state of its own between its visits."""

    random_state: Tensor


@contextmanager
def own_randomness(arm: HasRandomState, device: torch.device) -> Iterator[None]:
    """Give the device's random generator the arm's state for as long as the context lasts, and keep what it becomes."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(arm.random_state, device)
    else:
        torch.set_rng_state(arm.random_state)
    yield
    arm.random_state = random_state(device)
