"""The arms of a peer's case: their loop on batches, and a step of ours on copies of their networks."""

import copy
import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.peers.peer import LoopCase, Ours, PeerCase, Steps, Theirs
from osgan.building import build_scheme
from osgan.data import Dataset
from osgan.errors import NonFiniteLossError
from osgan.regularizers import parse_loss
from osgan.step import StepStats
from osgan.training.engine import Engine, EngineWarning
from osgan.training.loop import Loop
from osgan.training.optim import build_optimizer


class Feed:
    """What a loop of theirs takes for a data loader: `steps` batches, then control comes back."""

    def __init__(self, batches: Iterator[Any], steps: int, batch_size: int) -> None:
        self.batches = batches
        self.steps = steps
        self.dataset = range(steps * batch_size)
        """Has the length that their loops divide their sums by."""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.batches, self.steps)


class TheirArm:
    """Runs their loop, unchanged, on batches that lie on the device or on those of their own loader.

    Their loader's processes live for one visit, so that they decode nothing while others are timed; the batches that
    they have ready when the clock starts are a gift to them.
    """

    def __init__(self, theirs: Theirs, batch_size: int, batches: Iterable[Any] | None = None) -> None:
        self.theirs = theirs
        self.batch_size = batch_size
        self.on_device = None if batches is None else iter(batches)
        self.feed: Iterator[Any] = iter(())
        self.finite = True
        """Whether all weights were finite after the last visit."""

    def run(self, steps: int) -> None:
        """Take that many steps."""
        self.theirs.run(Feed(self.feed, steps, self.batch_size))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Start their loader for a visit; afterwards look at the weights."""
        if self.on_device is not None:
            self.feed = self.on_device
        else:
            assert self.theirs.loader is not None
            loaded = iter(self.theirs.loader)
            self.feed = itertools.chain([next(loaded)], loaded)
            del loaded
        try:
            yield
        finally:
            if self.on_device is None:
                self.feed = iter(())  # the last reference: its processes end here
        self.finite = _finite(self.theirs.generator, self.theirs.discriminator)


class LoopArm:
    """Runs a loop, theirs or ours, on players of its own and on batches that lie on the device."""

    def __init__(self, case: LoopCase, steps: Steps) -> None:
        self.steps = steps
        self.players = case.start()
        self.batches = itertools.cycle(case.batches)
        self.batch_size = case.batch_size
        self.finite = True
        """Whether all weights were finite after the last visit."""

    def run(self, steps: int) -> None:
        """Take that many steps."""
        self.steps(self.players, Feed(self.batches, steps, self.batch_size))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Look at the weights after a visit."""
        yield
        self.finite = _finite(self.players.generator, self.players.discriminator)


class OurArm:
    """Takes steps of ours on networks of its own."""

    def __init__(self, case: PeerCase, ours: Ours, dataset: Dataset, engine: Engine | None = None) -> None:
        self.loss = ours.loss or case.loss
        self.loop = our_loop(case, ours, dataset, engine or Engine())
        self.steps_done = 0
        self.pending: list[StepStats] = []

    def run(self, steps: int) -> None:
        """Take that many steps; waits for nothing on the device."""
        for _ in range(steps):
            self.pending.append(self.loop.step())

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Check the losses of a visit after it."""
        yield
        losses = torch.stack([torch.stack(stats) for stats in self.pending])
        self.steps_done += len(self.pending)
        self.pending = []
        if not losses.isfinite().all():
            raise NonFiniteLossError(f"a loss of {self.loss} was not finite within {self.steps_done} steps")


def our_loop(case: PeerCase, ours: Ours, dataset: Dataset, engine: Engine) -> Loop:
    """Build our loop, from drawing a batch to both updates: copies of their networks, their optimizers' settings.

    Raises InputError where the scheme is not exact.
    """
    generator, discriminator = copy.deepcopy((case.generator, case.discriminator))
    like = next(iter(case.theirs.values()))
    loss, regularizers = parse_loss(ours.loss or case.loss)
    scheme = build_scheme(
        ours.scheme,
        generator,
        discriminator,
        _adam_like(like.generator_optimizer, generator),
        _adam_like(like.discriminator_optimizer, discriminator),
        loss=loss,
        latent=case.latent,
        regularizers=regularizers,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)  # the record says it
        return Loop(scheme, dataset.batches(case.batch_size, seed=0), engine)


def device_batches(dataset: Dataset, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) drawn on the device as ours are; the labels, which no loop of theirs reads, are zeros."""
    labels = torch.zeros(batch_size, dtype=torch.int64, device=dataset.device)
    for images, _ in dataset.batches(batch_size, seed=0):
        yield images, labels


def _finite(*networks: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for network in networks for p in network.parameters())


def _adam_like(optimizer: torch.optim.Optimizer, network: nn.Module) -> torch.optim.Adam:
    settings = optimizer.param_groups[0]
    first, second = map(float, settings["betas"])  # some write an integer 0, which Adam takes beside no float
    return build_optimizer("adam", network.parameters(), settings["lr"], (first, second))
