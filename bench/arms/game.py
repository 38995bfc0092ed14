"""Arms of games that are no GAN on a data set: data-free distillation, and any game given as a class.

They run eagerly in float32: their steps are not `osgan.Scheme`s, which is all that `osgan.training.engine` knows. A
game is a class without arguments whose methods are its schemes, each a step; its networks and optimizers are its
attributes, and `not_exact` says why there is no one_stage, where there is none.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.arms.scheme import own_randomness, random_state
from bench.suite.cases import Case
from osgan import spec
from osgan.cost import Work, count_step
from osgan.distill import Distillation, Settings, Split, TeacherSettings, defaults_for, load_split, load_teacher
from osgan.errors import InputError, NotExactError
from osgan.modes import evaluating

FAR = 10**9
"""Steps of a run that is only timed: no milestone of a schedule comes near."""


class GameArm:
    """Takes steps of a game by one scheme; satisfies `bench.probes.timing.Arm`."""

    ran_as: str | None = None
    ran_as_because: str | None = None
    period = 1

    def __init__(
        self,
        case: Case,
        step: Callable[[], Any],
        players: list[nn.Module | Optimizer],
        device: torch.device,
        seed: int,
        *,
        finish: Callable[[], Any] = lambda: None,
        images: Callable[[int], Tensor] | None = None,
        images_per_step: int | None = None,
    ) -> None:
        self.case = case
        self.fallbacks: list[str] = []
        self.images_per_step = images_per_step or case.batch_size
        self.step = step
        self.players = players
        self.device = device
        self.seed = seed
        self.finish = finish
        self.images = images
        torch.manual_seed(seed)
        self._start()

    def forget_graphs(self) -> None:
        """Do nothing: a game's steps are eager."""

    def snapshot(self) -> list[Any]:
        """Return copies of all that a step changes, for `restart`."""
        return copy.deepcopy([player.state_dict() for player in self.players])

    def restart(self, snapshot: list[Any]) -> None:
        """Go back to the first step."""
        for player, state in zip(self.players, snapshot, strict=True):
            player.load_state_dict(state)
        torch.manual_seed(self.seed)
        self._start()

    def _start(self) -> None:
        self.random_state = random_state(self.device)
        self.steps_done = 0

    def run(self, steps: int) -> None:
        """Take that many steps; waits for nothing on the device."""
        for _ in range(steps):
            self.step()
        self.steps_done += steps

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Give the arm its random state for a visit; afterwards check its losses."""
        with own_randomness(self, self.device):
            yield
        self.finish()

    def count(self) -> Work:
        """Take a step and count what it did."""
        return count_step(self.step)

    def phases(self, device: torch.device, steps: int) -> None:
        """Return None: a game's steps have no phases of their own."""

    def prediction(self) -> dict[str, float]:
        """Return nothing: a game runs in one process."""
        return {}

    def real_images(self, n: int) -> None:
        """Return None: a game's data are its own."""

    def sample(self, n: int) -> Tensor | None:
        """Return n images in [-1, 1] if the game makes any."""
        if self.images is None:
            return None
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            return self.images(n)


def open_game(case: Case, device: torch.device, seed: int) -> Callable[..., GameArm]:
    """Return the builder of a game's arms by scheme; each builds the game anew from the same seed.

    The class is given the case's batch size, and the seed, where it takes them.
    """
    assert case.game is not None
    named = spec.Spec(case.game, ())
    build = spec.resolve("game", named.name, {})

    def arm_of(scheme: str, batch_size: int | None = None) -> GameArm:
        torch.manual_seed(seed)
        size = batch_size or case.batch_size
        game = spec.call("game", named, build, batch_size=size, seed=seed)
        step = getattr(game, scheme, None)
        if step is None and scheme == "one_stage" and hasattr(game, "not_exact"):
            raise NotExactError(f"one-stage training is not exact here: {game.not_exact}")
        if not callable(step):
            raise InputError(f"game {case.game!r} has no scheme {scheme!r}: no method of that name")
        parts = list(vars(game).values())
        networks = [part.to(device) for part in parts if isinstance(part, nn.Module)]
        optimizers = [part for part in parts if isinstance(part, Optimizer)]
        if not networks or not optimizers:
            raise InputError(f"game {case.game!r} must keep its networks and optimizers as attributes")
        return GameArm(case, step, [*networks, *optimizers], device, seed, images_per_step=size)

    return arm_of


class DistillGame:
    """A trained teacher and the settings of a case: builds runs of distillation over it."""

    def __init__(self, case: Case, device: torch.device, root: str | None) -> None:
        assert case.distill is not None
        self.case = case
        self.split: Split = load_split(case.dataset, device=device, root=root)
        of_teacher, settings = defaults_for(case.dataset, self.split.channels)
        given = case.distill.model_dump(exclude_none=True)
        teacher = {"network": given.pop("teacher")} | (
            {"epochs": e} if (e := given.pop("teacher_epochs", None)) else {}
        )
        self.of_teacher: TeacherSettings = replace(of_teacher, **teacher)
        self.settings: Settings = replace(settings, **given, loss=case.loss, batch_size=case.batch_size)
        self.teacher = load_teacher(self.split, self.of_teacher, train=True)

    @property
    def images_a_step(self) -> int:
        """Generated images that the student learns from in a step."""
        return self.settings.batch_size * self.settings.student_steps

    def build(self, scheme: str, seed: int, steps: int, batch_size: int | None = None) -> Distillation:
        """Build a run of so many steps."""
        settings = replace(
            self.settings, scheme=scheme, seed=seed, steps=steps, batch_size=batch_size or self.settings.batch_size
        )
        return Distillation(
            copy.deepcopy(self.teacher), settings, num_classes=self.split.num_classes, channels=self.split.channels
        )

    def arm(self, scheme: str, seed: int, batch_size: int | None = None) -> GameArm:
        """Build an arm to be timed."""
        run = self.build(scheme, seed, FAR, batch_size)
        return GameArm(
            self.case,
            lambda: run.run(1),
            [run.student, run.generator, run.student_optimizer, run.generator_optimizer],
            next(run.student.parameters()).device,
            seed,
            finish=run.losses,
            images=lambda n: pictures(run, n),
            images_per_step=run.settings.batch_size * run.settings.student_steps,
        )


@torch.no_grad()
def pictures(run: Distillation, n: int) -> Tensor:
    """Return n images of the generator in evaluation mode, brought to [-1, 1]."""
    with evaluating(run.generator):
        images: Tensor = run.generator(run.latent(n, next(run.generator.parameters()).device)).float()
    low, high = images.amin(), images.amax()
    return (images - low) / (high - low).clamp_min(1e-12) * 2 - 1
