"""The trainer: a recipe becomes networks, and steps, moving average, samples and checkpoints that resume bit for bit.

It waits for the device between steps only when somebody asks it something. Deliberately not here: what is shown of a
run (`osgan.commands.progress`), how good the images are (`osgan.metrics`). Of several processes each has a
trainer; all are asked the same in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from osgan import data, nets
from osgan.errors import InputError, NonFiniteLossError
from osgan.parallel import processes
from osgan.step import StepStats
from osgan.training import checkpoint
from osgan.training.average import MovingAverage
from osgan.training.checkpoint import Checkpoint
from osgan.training.engine import MEMORY_FORMATS, Engine
from osgan.training.finite import finite_losses
from osgan.training.recipe import Recipe, build_loop, set_learning_rates, set_penalties
from osgan.training.sampling import copy_tensors, images_of, recipe_of, sample
from osgan.training.schedule import Schedule
from osgan.training.standing import standing_statistics

LOSSES_KEPT = 100_000
"""Steps whose losses are kept for `Trainer.losses`; it bounds the memory of a long run that nobody asks."""
BLOCK = 1_000


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
        # As the engine lays it out, so that the average's copy lies as the weights do and both move in one pass.
        layout = MEMORY_FORMATS[Engine.parse(recipe.engine, recipe.precision).memory_format]
        for network in (self.networks.generator, self.networks.discriminator):
            network.to(device=self.device, memory_format=layout)  # type: ignore[call-overload]
        self.average: MovingAverage | None = None
        if recipe.ema_half_life:
            self.average = MovingAverage(self.networks.generator, recipe.ema_half_life, recipe.images_per_step)
        self.loop = build_loop(
            recipe,
            self.networks,
            self.dataset,
            after_step=self.average.update if self.average else None,
            extra_state=self.average.tensors() if self.average else (),
        )
        self.schedule = Schedule(recipe.schedule, num_steps=recipe.num_steps)
        self.penalty_schedule = Schedule(recipe.penalty_schedule, num_steps=recipe.num_steps)
        self._set_factors()
        self.resumed_from_processes: int | None = None
        """How many processes wrote the checkpoint that the run goes on from; None if it goes on from none."""
        self.data_differ: str | None = None
        """How the data differ from those at the checkpoint that the run goes on from; None if they do not."""
        self._pending: list[StepStats] = []
        self._blocks: list[Tensor] = []
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
            if len(self._pending) == BLOCK:
                self._fold()
            self.schedule.advance()
            self.penalty_schedule.advance()
            self._set_factors()

    def _set_factors(self) -> None:
        if self.schedule.changes:
            set_learning_rates(self.loop, self.recipe, self.schedule.factor)
        if self.penalty_schedule.changes:
            set_penalties(self.loop, self.penalty_schedule.factor)

    def _fold(self) -> None:
        """Put the losses so far into one tensor, and forget, after a look, those of long ago."""
        if self._pending:
            self._blocks.append(torch.stack([torch.stack(list(stats)) for stats in self._pending]))
            self._pending = []
        if len(self._blocks) > LOSSES_KEPT // BLOCK:
            self._finite(self._blocks.pop(0))

    def _finite(self, losses: Tensor) -> list[list[float]]:
        first, self._read = self._read, self._read + len(losses)
        pending = [StepStats(*pair) for pair in losses]
        return finite_losses(pending, first_step=first, loss=self.recipe.loss, over_processes=True)

    def losses(self) -> list[list[float]]:
        """Return the losses [of D, of G] of every step since the last call, over the whole batch; waits for the device.

        Of more than 100,000 steps these are the last. Raises NonFiniteLossError, which names the step, for the first
        that is NaN or infinite.
        """
        self._fold()
        blocks, self._blocks = self._blocks, []
        return [pair for block in blocks for pair in self._finite(block)]

    def sample(self, n: int, *, seed: int = 0, average: bool = True) -> Tensor:
        """Return n images (n, C, H, W) in [-1, 1] from G in evaluation mode; training goes on as if nothing had been.

        `average` takes the moving average where there is one. Labels of conditional networks go round the classes.
        """
        return sample(self._evaluated(average), n, seed=seed, device=self.device)

    def generate(self, n: int, *, average: bool = True) -> Tensor:
        """Return n images as `sample` does, but from torch's random state: for `osgan.metrics`.

        Labels are drawn as often as the data have each.
        Of several processes each generates with its own running statistics of BatchNorm: see `share_buffers`.
        """
        networks = self._evaluated(average)
        return images_of(networks, *self._drawn(n))

    def _drawn(self, n: int) -> tuple[Tensor, Tensor | None]:
        """Return n latents, and labels as often as the data have each, from torch's random state."""
        labels = self.dataset.random_labels(n) if self.networks.num_classes else None
        return self.networks.latent(n, self.device), labels

    @contextmanager
    def standing(self, batches: int = 16) -> Iterator[None]:
        """Give the moving average, or G where there is none, BatchNorm statistics of its own while the context lasts.

        They are of so many batches of always the same latents; training goes on as if nothing had been.
        """
        generator = self._evaluated(average=True).generator

        def make() -> None:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(self.recipe.seed)
                for _ in range(batches):
                    latents, labels = self._drawn(self.recipe.batch_size)
                    generator(latents, *(() if labels is None else (labels,)))

        with standing_statistics(generator, make):
            yield

    def _evaluated(self, average: bool) -> nets.Networks:
        return replace(self.networks, generator=self.average.generator) if average and self.average else self.networks

    def share_buffers(self) -> None:
        """Give all processes the buffers of process 0's G, which are sampled and saved; no loss of a step sees them."""
        processes.broadcast(self._evaluated(average=True).generator.buffers())

    def save(self, parent: Path, *, keep: int = 3) -> Path:
        """Write a checkpoint under `parent`, where the newest `keep` stay; of several processes the first writes."""
        self.losses()  # nothing that is not finite is saved
        for key, tensor in self._weights().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise NonFiniteLossError(
                    f"{key} of {self.recipe.loss} is not finite at step {self.num_steps}; lower the learning rates or "
                    "regularize the discriminator; the checkpoints before it are kept"
                )
        random_states = self._random_states()
        if processes.rank() != 0:
            return checkpoint.path_of(parent, self.num_steps)
        of_several = {"processes": processes.size()} if processes.size() > 1 else {}
        facts = {
            "recipe": self.recipe.to_dict(),
            "step": self.num_steps,
            "batches_drawn": self.loop.batches.drawn,
            "channels": self.dataset.image_shape[0],
            "num_classes": self.networks.num_classes,
            "data": self.dataset.fingerprint,
            **of_several,
        }
        saved = Checkpoint(facts, self._weights(), self._optimizers() | random_states)
        return checkpoint.save(parent, self.num_steps, saved, keep=keep)

    def resume(self, saved: Checkpoint) -> None:
        """Go on where a checkpoint was written, bit for bit; raises InputError if its recipe is another one.

        Of another number of processes, all goes on but chance: their random streams follow from seed, step and rank.
        """
        theirs, mine = recipe_of(saved).to_dict(), self.recipe.to_dict()
        # Without a schedule the length of the run decides nothing before its end.
        if not (self.schedule.changes or self.penalty_schedule.changes):
            theirs = theirs | {"images": mine["images"]}
        if differing := [key for key in mine if theirs.get(key) != mine[key]]:
            listed = "; ".join(f"{key} was {theirs.get(key)!r}, is {mine[key]!r}" for key in differing)
            raise InputError(f"the checkpoint is of another recipe: {listed}; use the old values or another folder")
        random_states = self._saved_random_states(saved)
        copy_tensors(self._weights(), saved.weights)
        copy_tensors(self._optimizers(), {k: t for k, t in saved.state.items() if not k.startswith("random.")})
        steps = saved.facts["step"]
        self.data_differ = _difference(saved.facts.get("data"), self.dataset.fingerprint)
        if self.average:
            self.average.images.fill_(steps * self.recipe.images_per_step)
        self.loop.scheme.num_steps = self._read = steps
        self.loop.batches.seek(saved.facts["batches_drawn"])
        for schedule in (self.schedule, self.penalty_schedule):
            schedule.advance(steps - schedule.step)
        self._set_factors()
        self.resumed_from_processes = saved.facts.get("processes", 1)
        if self.resumed_from_processes != processes.size():
            processes.manual_seed(self.recipe.seed, steps)
            return
        torch.set_rng_state(random_states[0])
        if len(random_states) > 1:
            torch.cuda.set_rng_state(random_states[1], self.device)

    def _saved_random_states(self, saved: Checkpoint) -> list[Tensor]:
        """Return this process's, of the CPU and, if it has one, of the GPU; raises InputError for what is none."""
        if saved.facts.get("processes", 1) != processes.size():
            return []
        own = _of_process(processes.rank())
        expected = {f"random.cpu{own}": torch.get_rng_state()}
        if self.device.type == "cuda" and f"random.cuda{own}" in saved.state:
            expected[f"random.cuda{own}"] = torch.cuda.get_rng_state(self.device)
        for key, state in expected.items():
            found = saved.state.get(key)
            if found is None or found.dtype != state.dtype or found.shape != state.shape:
                raise InputError(
                    f"the checkpoint's {key} is no state of a random generator; use the checkpoint before it"
                )
        return [saved.state[key] for key in expected]

    def _weights(self) -> dict[str, Tensor]:
        modules = {"generator": self.networks.generator, "discriminator": self.networks.discriminator}
        modules |= {"average": self.average.generator} if self.average else {}
        of_modules = {f"{name}.{key}": t for name, module in modules.items() for key, t in module.state_dict().items()}
        return of_modules | {f"step.{place}": t for place, t in enumerate(self.loop.scheme.tensors())}

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
        of_all = enumerate(processes.gather_to_first(own))
        return {f"{key}{_of_process(rank)}": state for rank, states in of_all for key, state in states.items()}


def _of_process(rank: int) -> str:
    return f".{rank}" if rank else ""  # a run of one process has the names it always had


def _difference(theirs: Any, mine: dict[str, Any]) -> str | None:
    """Say how the data differ from those at the checkpoint, which is of before fingerprints if it has none."""
    if not isinstance(theirs, dict) or theirs == mine:
        return None
    if theirs.get("images") != mine["images"]:
        return f"{theirs.get('images')} -> {mine['images']} images"
    return "as many images, but other ones"
