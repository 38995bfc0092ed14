"""What an adapter takes and gives: the checkout's own networks, optimizers and loop, and what ours does beside them.

A new peer is one file with a `PEER`, listed in `bench.peers.worker.PEERS`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.latent import Latent

Precision = Literal["fp32", "tf32"]
SEED = 0
Record = dict[str, Any]
"""A part of peers.json, whose format is its own (`bench.peers.runner`)."""
Loop = Callable[[nn.Module, nn.Module, Optimizer, Optimizer, Any], object]
"""Their loop: G, D, G's and D's optimizer, and a loader of (images, labels); a step for each batch of the loader."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for."""

    device: torch.device
    batch_size: int
    width: int
    """Of D's first layer; G is as much wider or narrower than the peer's own."""
    resolution: int
    folder: Path | None = None


@dataclass
class Theirs:
    """One of their training steps: what it works on, and the loop as they wrote it."""

    scheme: str
    """The scheme of ours that takes the same gradients."""
    file: str
    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    loop: Loop
    loader: Iterable[Any] | None = None
    """Their own data loader; None where batches on the device are handed to the loop."""

    def run(self, batches: Any) -> None:
        """Take a step for each batch."""
        self.loop(self.generator, self.discriminator, self.generator_optimizer, self.discriminator_optimizer, batches)


@dataclass(frozen=True)
class Ours:
    """An arm of ours on copies of their networks; `loss` None is theirs."""

    scheme: str
    loss: str | None = None
    note: str = ""


@dataclass(kw_only=True)
class Case:
    """Their steps and ours on the same networks, batch and precision."""

    name: str
    loss: str
    """Theirs, in our words, with its regularizers."""
    batch_size: int
    about: dict[str, Any]
    targets: dict[str, float]
    """Arm of theirs -> how many times as fast the first arms of ours are to be, on a GPU."""
    judged: tuple[str, ...]
    """Arms of ours that the targets are held against; the first is the reference of the rounds."""


@dataclass(kw_only=True)
class PeerCase(Case):
    """Images from latents, one batch of images a step: what a scheme of ours does too."""

    image_shape: tuple[int, int, int]
    generator: nn.Module
    """Their networks as they start, for ours to copy; never called themselves."""
    discriminator: nn.Module
    latent: Latent
    latents_on_host: bool = False
    theirs: dict[str, Theirs]
    ours: dict[str, Ours]
    folder: Path | None = None
    """Where both sides load images from, in the time measured."""
    shift: float = 0.0
    """Gradients are compared once more with every logit of D lowered by this much."""


@dataclass
class Players:
    """What a loop trains: several networks of one player are one module of modules."""

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    whole: Any = None
    """What the loop's code keeps its state in: a model, a worker, a script's names."""

    def zero_grad(self) -> None:
        """Forget the gradients of both players."""
        self.generator_optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()

    def update(self) -> None:
        """Take the step of both optimizers."""
        self.discriminator_optimizer.step()
        self.generator_optimizer.step()


Steps = Callable[[Players, Iterable[Any]], object]
"""A loop that takes a step of the players for each batch."""


@dataclass(frozen=True)
class OurSteps:
    """An arm of ours: a loop around `osgan.tap` and `osgan.backward`."""

    steps: Steps
    note: str


@dataclass(kw_only=True)
class LoopCase(Case):
    """A loop of theirs with several losses, on whatever data, and ours around the functional core."""

    file: str
    """Of their loop."""
    build: Callable[[], Players]
    """Build the players anew, on the device; from the same random state they have the same weights."""
    theirs: Steps
    ours: dict[str, OurSteps]
    losses: Callable[[Players, Any], tuple[Tensor, Tensor]]
    """Return what D and what G minimises on a batch, by their loss functions: D's on detached fakes, G's through D."""
    batches: Sequence[Any]
    """On the device, taken in turns."""

    def start(self) -> Players:
        """Build the players with the weights that every arm starts from."""
        torch.manual_seed(SEED)
        return self.build()


@dataclass
class Changes:
    """What is done in memory to make a checkout run, a sentence each; and what else a reader must know of it."""

    patched: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def patch(self, sentence: str) -> None:
        """Note a patch once."""
        if sentence not in self.patched:
            self.patched.append(sentence)

    def remark(self, sentence: str) -> None:
        """Note a remark once."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A kind of checkout: what it is called, the files it is recognised by, and the adapter."""

    key: str
    title: str
    url: str
    recognised_by: tuple[str, ...]
    batch_size: int
    width: int
    resolutions: tuple[int, ...]
    """Accepted; the first is the default."""
    cpu_batch_size: int = 16
    cpu_width: int | None = None
    """None is a quarter of `width`."""
    cpu_resolution: int | None = None
    """None is the first of `resolutions`."""
    open: Callable[[Path, Settings, Changes], Sequence[Case]]
    """Load the checkout, in a process of its own, and return its cases on the device."""

    def recognises(self, path: Path) -> bool:
        """Whether a folder is such a checkout."""
        return all((path / file).is_file() for file in self.recognised_by)


class Maps:
    """Standard normal latents of shape (n, dim, 1, 1), as networks that begin with a convolution take them."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __call__(self, n: int, device: torch.device | str) -> Tensor:
        """Draw n latents on the device."""
        return torch.randn(n, self.dim, 1, 1, device=device)
