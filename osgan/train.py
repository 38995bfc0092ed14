"""The trainer: a recipe becomes networks, and steps, moving average, samples and checkpoints that resume bit for bit.

It waits for the device between steps only when somebody asks it something. Deliberately not here: what is shown of a
run (`osgan.monitor`), how good the images are (`osgan.metrics`). Of several processes (`osgan.distributed`) each has a
trainer; all are asked the same in the same order.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from osgan import checkpoint, data, distributed, nets
from osgan.checkpoint import Checkpoint
from osgan.errors import InputError
from osgan.recipe import Recipe, Schedule, build_loop, finite_losses, set_learning_rates
from osgan.step import StepStats


class MovingAverage:
    """The exponential moving average of G's weights, as a step of its own on the device; buffers are copied."""

    def __init__(self, generator: nn.Module, decay: float) -> None:
        self._update = get_ema_multi_avg_fn(decay)
        self._generator = generator
        self.model = AveragedModel(generator, multi_avg_fn=self._update)
        self.model.module.eval()

    @property
    def generator(self) -> nn.Module:
        """The averaged G, in evaluation mode."""
        module: nn.Module = self.model.module
        return module

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards G; AveragedModel's own update would wait for the device to read its counter."""
        averages, weights = list(self.generator.parameters()), list(self._generator.parameters())
        self._update(averages, weights, self.model.n_averaged)
        for average, buffer in zip(self.generator.buffers(), self._generator.buffers(), strict=True):
            average.copy_(buffer)

    def tensors(self) -> list[Tensor]:
        """Return the very tensors that `update` changes."""
        return [*self.generator.parameters(), *self.generator.buffers()]


class Trainer:
    """Trains a recipe on a device.

    `root` is where data lies (`osgan.data.load`); `dataset` is the recipe's if it is loaded already. Raises InputError
    for a recipe that cannot be trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        device: torch.device | str = "cpu",
        root: str | Path | None = None,
        dataset: data.Dataset | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.dataset = dataset or data.load(
            recipe.dataset, resolution=nets.resolution_of(recipe.architecture), device=self.device, root=root
        )
        torch.manual_seed(recipe.seed)
        self.networks = nets.build(
            recipe.architecture, channels=self.dataset.image_shape[0], num_classes=self.dataset.num_classes
        )
        for network in (self.networks.generator, self.networks.discriminator):
            network.to(self.device)
        self.average: MovingAverage | None = None
        if recipe.ema_half_life:
            self.average = MovingAverage(
                self.networks.generator, 0.5 ** (recipe.images_per_step / recipe.ema_half_life)
            )
        self.loop = build_loop(
            recipe,
            self.networks,
            self.dataset,
            after_step=self.average.update if self.average else None,
            extra_state=self.average.tensors() if self.average else (),
        )
        self.schedule = Schedule(recipe.schedule, num_steps=recipe.num_steps)
        self.resumed_from_processes: int | None = None
        """How many processes wrote the checkpoint that the run goes on from; None if it goes on from none."""
        self._pending: list[StepStats] = []
        self._read = 0

    @property
    def num_steps(self) -> int:
        """Steps taken since the beginning of the run."""
        return self.loop.scheme.num_steps

    @property
    def images_seen(self) -> int:
        """Real images that D was shown since the beginning of the run."""
        return self.num_steps * self.recipe.images_per_step

    def train(self, steps: int) -> None:
        """Take so many steps; waits for nothing on the device."""
        for _ in range(steps):
            self._pending.append(self.loop.step())
            self.schedule.advance()
            if self.schedule.changes:
                set_learning_rates(self.loop, self.recipe, self.schedule.factor)

    def losses(self) -> list[list[float]]:
        """Return the losses [of D, of G] of every step since the last call, over the whole batch; waits for the device.

        Raises NonFiniteLossError, which names the step, for the first that is NaN or infinite.
        """
        pending, first = self._pending, self._read
        self._pending, self._read = [], self.num_steps
        return finite_losses(pending, first_step=first, loss=self.recipe.loss, over_processes=True)

    def sample(self, n: int, *, seed: int = 0, average: bool = True) -> Tensor:
        """Return n images (n, C, H, W) in [-1, 1] from G in evaluation mode; training goes on as if nothing had been.

        `average` takes the moving average where there is one. Labels of conditional networks go round the classes.
        """
        return sample(self._evaluated(average), n, seed=seed, device=self.device)

    def generate(self, n: int, *, average: bool = True) -> Tensor:
        """Return n images as `sample` does, but from torch's random state, with random labels: for `osgan.metrics`.

        Of several processes each generates with its own running statistics of BatchNorm: see `share_buffers`.
        """
        networks = self._evaluated(average)
        labels = torch.randint(networks.num_classes, (n,), device=self.device) if networks.num_classes else None
        return _images(networks, networks.latent(n, self.device), labels)

    def _evaluated(self, average: bool) -> nets.Networks:
        return replace(self.networks, generator=self.average.generator) if average and self.average else self.networks

    def share_buffers(self) -> None:
        """Give all processes the buffers of process 0's G, which are sampled and saved; no loss of a step sees them."""
        distributed.broadcast(self._evaluated(average=True).generator.buffers())

    def save(self, parent: Path, *, keep: int = 3) -> Path:
        """Write a checkpoint under `parent`, where the newest `keep` stay; of several processes the first writes."""
        self.losses()  # nothing that is not finite is saved
        random_states = self._random_states()
        if distributed.rank() != 0:
            return checkpoint.path_of(parent, self.num_steps)
        processes = {"processes": distributed.size()} if distributed.size() > 1 else {}
        facts = {
            "recipe": self.recipe.to_dict(),
            "step": self.num_steps,
            "batches_drawn": self.loop.batches.drawn,
            "channels": self.dataset.image_shape[0],
            "num_classes": self.networks.num_classes,
            **processes,
        }
        saved = Checkpoint(facts, self._weights(), self._optimizers() | random_states)
        return checkpoint.save(parent, self.num_steps, saved, keep=keep)

    def resume(self, saved: Checkpoint) -> None:
        """Go on where a checkpoint was written, bit for bit; raises InputError if its recipe is another one.

        Of another number of processes, all goes on but chance: their random streams follow from seed, step and rank.
        """
        theirs, mine = Recipe.from_dict(saved.facts["recipe"]).to_dict(), self.recipe.to_dict()
        if self.recipe.schedule == "constant":  # then the length of the run decides nothing before its end
            theirs = theirs | {"images": mine["images"]}
        if differing := [key for key in mine if theirs.get(key) != mine[key]]:
            listed = "; ".join(f"{key} was {theirs.get(key)!r}, is {mine[key]!r}" for key in differing)
            raise InputError(f"the checkpoint is of another recipe: {listed}; use the old values or another folder")
        _copy(self._weights(), saved.weights)
        _copy(self._optimizers(), {k: t for k, t in saved.state.items() if not k.startswith("random.")})
        steps = saved.facts["step"]
        self.loop.scheme.num_steps = self._read = steps
        self.loop.batches.seek(saved.facts["batches_drawn"])
        self.schedule.advance(steps - self.schedule.step)
        set_learning_rates(self.loop, self.recipe, self.schedule.factor)
        self.resumed_from_processes = saved.facts.get("processes", 1)
        if self.resumed_from_processes != distributed.size():
            distributed.manual_seed(self.recipe.seed, steps)
            return
        own = _of_process(distributed.rank())
        torch.set_rng_state(saved.state[f"random.cpu{own}"])
        if self.device.type == "cuda" and f"random.cuda{own}" in saved.state:
            torch.cuda.set_rng_state(saved.state[f"random.cuda{own}"], self.device)

    def _weights(self) -> dict[str, Tensor]:
        modules = {"generator": self.networks.generator, "discriminator": self.networks.discriminator}
        modules |= {"average": self.average.generator} if self.average else {}
        return {f"{name}.{key}": t for name, module in modules.items() for key, t in module.state_dict().items()}

    def _optimizers(self) -> dict[str, Tensor]:
        return {
            f"{player}.{index}.{key}": tensor
            for player, optimizer in zip(("generator", "discriminator"), self.loop.optimizers, strict=True)
            for index, values in enumerate(optimizer.state.values())
            for key, tensor in values.items()
        }

    def _random_states(self) -> dict[str, Tensor]:
        """Return those of every process, by names that end on its number from 1 on."""
        own = {"random.cpu": torch.get_rng_state()}
        own |= {"random.cuda": torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        of_all = enumerate(distributed.gather_to_first(own))
        return {f"{key}{_of_process(rank)}": state for rank, states in of_all for key, state in states.items()}


def _of_process(rank: int) -> str:
    return f".{rank}" if rank else ""  # a run of one process has the names it always had


@dataclass(frozen=True)
class LoadedGenerator:
    """G of a checkpoint, ready to make images."""

    networks: nets.Networks
    recipe: Recipe
    step: int


def load_generator(path: Path, device: torch.device | str = "cpu", *, average: bool = True) -> LoadedGenerator:
    """Build G of a checkpoint, its moving average where there is one; raises InputError if it cannot be read."""
    saved = checkpoint.load(path)
    recipe = Recipe.from_dict(saved.facts["recipe"])
    networks = nets.build(recipe.architecture, channels=saved.facts["channels"], num_classes=saved.facts["num_classes"])
    prefix = "average." if average and any(key.startswith("average.") for key in saved.weights) else "generator."
    weights = {key.removeprefix(prefix): value for key, value in saved.weights.items() if key.startswith(prefix)}
    _copy(networks.generator.state_dict(), weights)
    networks.generator.to(device)
    return LoadedGenerator(networks, recipe, saved.facts["step"])


def sample(networks: nets.Networks, n: int, *, seed: int, device: torch.device | str) -> Tensor:
    """Return n images of G in evaluation mode (n, C, H, W), from latents that depend on the seed alone."""
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        latents = networks.latent(n, device)
    labels = torch.arange(n, device=device) % networks.num_classes if networks.num_classes else None
    return _images(networks, latents, labels)


@torch.no_grad()
def _images(networks: nets.Networks, latents: Tensor, labels: Tensor | None) -> Tensor:
    was_training = networks.generator.training
    networks.generator.eval()
    images: Tensor = networks.generator(latents, *(() if labels is None else (labels,)))
    networks.generator.train(was_training)
    return images.float()


@torch.no_grad()
def _copy(mine: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Copy tensors by name into those that are there; raises InputError where names or shapes differ."""
    if differing := sorted(mine.keys() ^ given.keys()):
        raise InputError(f"the checkpoint is of another architecture: {', '.join(differing[:5])} are not in both")
    for key, tensor in mine.items():
        if tensor.shape != given[key].shape:
            raise InputError(
                f"the checkpoint is of another architecture: {key} has shape {tuple(given[key].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
    for key, tensor in mine.items():
        tensor.copy_(given[key])
