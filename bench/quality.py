"""Training for quality: the arms of a case take turns, are judged on the way, and only their steps count as time.

One process, one case, one variant, one seed, all its schemes. A turn is the training up to the next evaluation; the
order of the arms changes at random from turn to turn, so that what the machine does meets all of them alike.
"""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from bench.arm import random_state, set_random_state
from bench.measure import Timer, named, timer_for
from bench.results import Record, slug
from bench.suite import Case, Quality, Suite, with_regularizers
from osgan import data, nets
from osgan.engine import EngineWarning
from osgan.metrics import Judge
from osgan.monitor import image_grid
from osgan.recipe import Recipe
from osgan.train import Trainer

Report = Callable[[str, float], None]

TUNING_SEED = 1000
STEPS_A_CALL = 100


@dataclass(frozen=True)
class QualityJob:
    """One seed of one variant of a case, or with seed None the search for its settings."""

    suite: Suite
    case: Case
    variant: str
    seed: int | None
    device: str
    root: str | None
    run: Path
    settings: dict[str, dict[str, float]] = field(default_factory=dict)
    """Learning rates that the search has chosen, by scheme."""

    @property
    def name(self) -> str:
        """The job's one name, in results."""
        return job_name(self.case.name, self.variant, self.seed)

    @property
    def plan(self) -> Quality:
        """What the suite asks for."""
        assert self.suite.quality is not None
        return self.suite.quality

    def recipe(self, scheme: str, seed: int, images: int, setting: dict[str, float]) -> Recipe:
        """Return what an arm trains; the arms of a job differ in the scheme and, if tuned, in the learning rates."""
        variant, adam = self.plan.variants[self.variant], self.suite.optimizer
        rates: dict[str, Any] = {
            "generator_lr": variant.generator_lr or adam.generator_lr,
            "discriminator_lr": variant.discriminator_lr or adam.discriminator_lr,
        }
        case = self.case.model_dump() | {"loss": with_regularizers(self.case.loss, variant.regularizers)}
        return Recipe(
            **case,
            **(rates | setting),
            betas=adam.betas,
            optimizer=variant.optimizer,
            scheme=scheme,
            images=images,
            ema_half_life=self.plan.ema_half_life,
            seed=seed,
        )


def job_name(case: str, variant: str, seed: int | None) -> str:
    """Return the name of a job in results."""
    return f"{case} / {variant} / {'tune' if seed is None else f'seed {seed}'}"


class QualityArm:
    """A trainer with a random state and a clock of its own."""

    def __init__(self, recipe: Recipe, dataset: data.Dataset, timer: Timer) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EngineWarning)  # the record says it
            self.trainer = Trainer(recipe, device=dataset.device, dataset=dataset)
        self.timer = timer
        self.seconds = 0.0
        self.points: list[Record] = []
        self.random_state = random_state(dataset.device)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let the arm have the random state for as long as the context lasts."""
        set_random_state(self.trainer.device, self.random_state)
        yield
        self.random_state = random_state(self.trainer.device)

    def warm_up(self) -> None:
        """Compile, capture and warm caches up in steps that are taken back."""
        loop = self.trainer.loop
        with self.turn():
            self.timer.time(lambda: loop.rehearse(10))

    def train_to(self, images: int) -> None:
        """Train until that many images are seen, on the clock; raises NonFiniteLossError."""
        trainer = self.trainer
        with self.turn():
            while (left := round(images / trainer.recipe.batch_size) - trainer.num_steps) > 0:
                elapsed = self.timer.time(partial(trainer.train, min(left, STEPS_A_CALL)))
                self.seconds += elapsed.wall_ms / 1e3
                trainer.losses()

    def evaluate(self, judge: Judge) -> None:
        """Judge G, its moving average and itself, off the clock."""
        average, raw = (judge(partial(self.trainer.generate, average=average)) for average in (True, False))
        self.points.append(
            {
                "images": self.trainer.images_seen,
                "seconds": self.seconds,
                "average": average.values,
                "raw": raw.values,
            }
        )


def run_job(job: QualityJob, report: Report) -> Record:
    """Train and judge all arms of a job; one that fails ends alone and keeps the points it has."""
    dataset, judge = _open(job)
    facts = {
        "name": job.name,
        "case": job.case.model_dump(),
        "variant": job.variant,
        "seed": job.seed,
        "metric": judge.names[0],
        "extractor": judge.extractor.name,
        "weights_sha256": judge.extractor.weights_sha256,
        "notes": list(judge.notes),
        "num_real": judge.num_real,
        "num_fake": judge.num_images,
    }
    if job.seed is None:
        return facts | {"status": "ok", "reason": None, "tuned": _tune(job, dataset, judge, report)}
    timer, arms, failures = timer_for(dataset.device), {}, {}
    for scheme in job.suite.schemes:
        report(f"{scheme}: warm-up", 0.0)
        recipe = job.recipe(scheme, job.suite.seed + job.seed, job.plan.images, job.settings.get(scheme, {}))
        try:
            arms[scheme] = QualityArm(recipe, dataset, timer)
            arms[scheme].warm_up()
        except Exception as error:
            failures[scheme] = named(error)
    _take_turns(job, arms, failures, judge, report)
    found = {scheme: _found(job, scheme, arms.get(scheme), failures.get(scheme)) for scheme in job.suite.schemes}
    reasons = [f"{scheme}: {reason}" for scheme, reason in failures.items()]
    return facts | {
        "status": "failed" if reasons else "ok",
        "reason": "; ".join(reasons) or None,
        "arms": found,
    }


def _open(job: QualityJob) -> tuple[data.Dataset, Judge]:
    device = torch.device(job.device)
    dataset = data.load(
        job.case.dataset, resolution=nets.resolution_of(job.case.architecture), device=device, root=job.root
    )
    plan = job.plan
    judge = Judge(
        dataset,
        metrics=(plan.metric,),
        extractor=plan.extractor,
        device=device,
        num_images=plan.generated_images,
        num_real=plan.real_images,
    )
    return dataset, judge


def _take_turns(
    job: QualityJob, arms: dict[str, QualityArm], failures: dict[str, str], judge: Judge, report: Report
) -> None:
    order = random.Random(f"{job.suite.seed} {job.seed}")
    goals = [*range(job.plan.evaluate_every, job.plan.images, job.plan.evaluate_every), job.plan.images]
    for index, goal in enumerate(goals):
        alive = [scheme for scheme in arms if scheme not in failures]
        order.shuffle(alive)
        for position, scheme in enumerate(alive):
            report(f"{scheme}: {goal:,} images", (index + position / len(alive)) / len(goals))
            try:
                arms[scheme].train_to(goal)
                arms[scheme].evaluate(judge)
            except Exception as error:
                failures[scheme] = named(error)


def _found(job: QualityJob, scheme: str, arm: QualityArm | None, failure: str | None) -> Record:
    found: Record = {
        "status": "failed" if failure else "ok",
        "reason": failure,
        "setting": job.settings.get(scheme),
        "points": arm.points if arm else [],
        "samples": None,
    }
    if arm and arm.trainer.loop.fallbacks:
        found["fallbacks"] = arm.trainer.loop.fallbacks
    if arm and not failure and job.suite.samples.images:
        relative = Path("samples") / slug(job.name) / f"{scheme}.png"
        (job.run / relative).parent.mkdir(parents=True, exist_ok=True)
        save_image(image_grid(arm.trainer.sample(job.suite.samples.images)), job.run / relative)
        found["samples"] = relative.as_posix()
    return found


def _tune(job: QualityJob, dataset: data.Dataset, judge: Judge, report: Report) -> Record:
    """Try every setting of the grid for every scheme, with a seed that is not judged; keep each scheme's best."""
    tune = job.plan.tune
    assert tune is not None
    tuned: Record = {}
    tasks = [(scheme, setting) for scheme in job.suite.schemes for setting in tune.settings()]
    for index, (scheme, setting) in enumerate(tasks):
        report(f"{scheme}: tuning", index / len(tasks))
        recipe = job.recipe(scheme, TUNING_SEED, tune.images, setting)
        trial: dict[str, Any] = {"setting": setting, "value": None, "reason": None}
        try:
            arm = QualityArm(recipe, dataset, timer_for(dataset.device))
            arm.train_to(tune.images)
            trial["value"] = judge(arm.trainer.generate).values[judge.names[0]]
        except Exception as error:
            trial["reason"] = named(error)
        tuned.setdefault(scheme, {"trials": []})["trials"].append(trial)
    for found in tuned.values():
        done = [trial for trial in found["trials"] if trial["value"] is not None and trial["value"] == trial["value"]]
        found["setting"] = min(done, key=lambda trial: trial["value"])["setting"] if done else None
    return tuned
