"""What a quality run trains and judges: arms with a clock of their own, and the data and judges they share."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import torch

from bench.arms.game import DistillGame, pictures
from bench.arms.scheme import own_randomness, random_state
from bench.probes.timing import Timer, timer_for
from bench.results.checks import Found
from bench.suite.cases import Case
from bench.suite.plans import Quality
from osgan import data, nets
from osgan.errors import NotExactError
from osgan.metrics import Judge
from osgan.training.engine import EngineWarning
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer

STEPS_A_CALL = 100
STUDENT_ERROR = "student error (%)"


class QualityArm:
    """A run with a random state and a clock of its own; what is trained, and how it is judged, is the subclass's."""

    fallbacks: list[str]
    ran_as: str | None = None
    """The scheme that stands in for one that is not exact here."""

    def __init__(self, device: torch.device, timer: Timer) -> None:
        self.device = device
        self.timer = timer
        self.seconds = 0.0
        self.points: list[Found] = []
        self.random_state = random_state(device)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let the arm have the random state for as long as the context lasts."""
        with own_randomness(self, self.device):
            yield

    @property
    def images_a_step(self) -> int:
        """Images that a step learns from."""
        raise NotImplementedError

    @property
    def images_seen(self) -> int:
        """Images that the steps so far have learnt from."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Bring everything that happens only at first behind, in steps that are taken back."""

    def train(self, steps: int) -> None:
        """Take so many steps; waits for nothing on the device."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise NonFiniteLossError if a loss was not finite."""
        raise NotImplementedError

    def judge(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the metric of what is to be used, and of the network as it was trained."""
        raise NotImplementedError

    def sample(self, n: int) -> torch.Tensor:
        """Return n images (n, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def train_to(self, images: int) -> None:
        """Train until that many images are seen, on the clock; raises NonFiniteLossError."""
        with self.turn():
            while (left := round((images - self.images_seen) / self.images_a_step)) > 0:
                elapsed = self.timer.time(partial(self.train, min(left, STEPS_A_CALL)))
                self.seconds += elapsed.wall_ms / 1e3
                self.check()

    def evaluate(self) -> None:
        """Note what has been reached, off the clock."""
        average, raw = self.judge()
        self.points.append({"images": self.images_seen, "seconds": self.seconds, "average": average, "raw": raw})


class GanArm(QualityArm):
    """A GAN's trainer, judged by what its generator makes."""

    def __init__(self, recipe: Recipe, dataset: data.Dataset, timer: Timer, judge: Judge, plan: Quality) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EngineWarning)  # the record says it
            self.trainer = Trainer(recipe, device=dataset.device, dataset=dataset)
        self._judge, self._plan = judge, plan
        self.fallbacks = self.trainer.loop.fallbacks
        super().__init__(dataset.device, timer)

    @property
    def images_a_step(self) -> int:
        """Real images, a batch for each update of D."""
        return self.trainer.recipe.images_per_step

    @property
    def images_seen(self) -> int:
        """Real images so far."""
        return self.trainer.images_seen

    def warm_up(self) -> None:
        """Compile, capture, and warm caches up."""
        with self.turn():
            self.timer.time(lambda: self.trainer.loop.rehearse(10))

    def train(self, steps: int) -> None:
        """Take so many steps."""
        self.trainer.train(steps)

    def check(self) -> None:
        """Read the losses."""
        self.trainer.losses()

    def judge(self) -> tuple[dict[str, float], dict[str, float]]:
        """Judge the moving average of G, and if asked G itself."""
        with self.trainer.standing(self._plan.standing_batches) if self._plan.standing_batches else nullcontext():
            average = self._judge(partial(self.trainer.generate, average=True)).values
        if not self._plan.judge_raw:
            return average, {}
        return average, self._judge(partial(self.trainer.generate, average=False)).values

    def sample(self, n: int) -> torch.Tensor:
        """Return images of the moving average."""
        return self.trainer.sample(n)


class Gans:
    """The GANs of a case: the data, the judge, and the builder of arms."""

    def __init__(self, case: Case, plan: Quality, device: torch.device, root: str | None) -> None:
        resolution = nets.resolution_of(case.architecture)
        self.plan = plan
        self.timer = timer_for(device)
        self.dataset = data.load(case.dataset, resolution=resolution, device=device, root=root)
        self.judge = Judge(
            self.dataset,
            metrics=(plan.metric,),
            extractor=plan.extractor,
            device=device,
            num_images=plan.generated_images,
            num_real=plan.real_images,
        )
        self.facts: Found = {
            "metric": self.judge.names[0],
            "extractor": self.judge.extractor.name,
            "weights_sha256": self.judge.extractor.weights_sha256,
            "notes": list(self.judge.notes),
            "num_real": self.judge.num_real,
            "num_fake": self.judge.num_images,
        }

    def arm(self, recipe: Recipe, fallback: str | None = None) -> GanArm:
        """Build the arm that trains a recipe, by the scheme `fallback` where its own is not exact."""
        try:
            return GanArm(recipe, self.dataset, self.timer, self.judge, self.plan)
        except NotExactError:
            if fallback is None:
                raise
        arm = GanArm(replace(recipe, scheme=fallback), self.dataset, self.timer, self.judge, self.plan)
        arm.ran_as = fallback
        return arm


class DistillationArm(QualityArm):
    """A student that learns without data, judged by its error on images that nobody trained on."""

    def __init__(
        self, game: DistillGame, scheme: str, seed: int, images: int, device: torch.device, timer: Timer
    ) -> None:
        self.game = game
        self.run = game.build(scheme, seed, max(1, round(images / game.images_a_step)))
        self.fallbacks = []
        super().__init__(device, timer)

    @property
    def images_a_step(self) -> int:
        """Generated images the student learns from."""
        return self.game.images_a_step

    @property
    def images_seen(self) -> int:
        """Generated images so far."""
        return self.run.steps_done * self.game.images_a_step

    def train(self, steps: int) -> None:
        """Take so many steps."""
        self.run.run(steps)

    def check(self) -> None:
        """Read the losses."""
        self.run.losses()

    def judge(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the student's error in percent."""
        error = {STUDENT_ERROR: 100 * (1 - self.game.split.accuracy(self.run.student))}
        return error, error

    def sample(self, n: int) -> torch.Tensor:
        """Return images of the generator."""
        return pictures(self.run, n)


class Distillations:
    """Runs of data-free distillation over one teacher."""

    def __init__(self, case: Case, device: torch.device, root: str | None) -> None:
        self.device = device
        self.timer = timer_for(device)
        self.game = DistillGame(case, device, root)
        teacher_error = 100 * (1 - self.game.split.accuracy(self.game.teacher))
        self.facts: Found = {
            "metric": STUDENT_ERROR,
            "extractor": None,
            "weights_sha256": None,
            "notes": [f"the teacher's error is {teacher_error:.2f} %", f"measured on {self.game.split.held_out}"],
            "num_real": len(self.game.split.test.images),
            "num_fake": None,
        }

    def arm(self, scheme: str, seed: int, images: int) -> DistillationArm:
        """Build an arm whose student is to learn from so many images."""
        return DistillationArm(self.game, scheme, seed, images, self.device, self.timer)
