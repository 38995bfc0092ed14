"""Training for quality: the arms of a case take turns, are judged on the way, and only their steps count as time.

One process, one case, one variant, one seed, all its schemes. A turn is the training up to the next evaluation; the
order of the arms changes at random from turn to turn, so that what the machine does meets all of them alike.
"""

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch

from bench.arms.quality import Distillations, Gans, QualityArm
from bench.arms.scheme import recipe_of
from bench.probes.timing import named
from bench.results.checks import Found
from bench.results.grids import save_grid
from bench.suite.jobs import QualityJob
from bench.suite.plans import with_regularizers
from bench.suite.tune import best_setting
from osgan.errors import InputError
from osgan.training.recipe import Recipe

Report = Callable[[str, float], None]

TUNING_SEED = 1000
"""Of the search, after the suite's: no seed that is judged, however many there are within reason."""


def run_job(job: QualityJob, report: Report) -> Found:
    """Train and judge all arms of a job; one that fails ends alone and keeps the points it has."""
    course = _open(job)
    facts = {
        "name": job.name,
        "case": job.case.model_dump(exclude_none=True),
        "variant": job.variant,
        "seed": job.seed,
        **course.facts,
    }
    if job.seed is None:
        trial = {} if job.trial is None else {"trial": job.trial}
        return facts | trial | {"status": "ok", "reason": None, "tuned": _tune(job, course, report)}
    arms: dict[str, QualityArm] = {}
    failures: dict[str, str] = {}
    for scheme in job.schemes:
        report(f"{scheme}: warm-up", 0.0)
        try:
            if job.waits_for and not job.settings.get(scheme):
                raise InputError("its search found no setting: untuned, it is no match for the others")
            setting = job.settings.get(scheme, {})
            arms[scheme] = _arm(job, course, scheme, job.suite.seed + job.seed, job.plan.images, setting)
            arms[scheme].warm_up()
        except Exception as error:
            failures[scheme] = named(error)
    _take_turns(job, arms, failures, report)
    found = {scheme: _found(job, scheme, arms.get(scheme), failures.get(scheme)) for scheme in job.schemes}
    reasons = [f"{scheme}: {reason}" for scheme, reason in failures.items()]
    return facts | {
        "status": "failed" if reasons else "ok",
        "reason": "; ".join(reasons) or None,
        "arms": found,
    }


def _open(job: QualityJob) -> Gans | Distillations:
    device = torch.device(job.device)
    if job.case.distill:
        return Distillations(job.case, device, job.root)
    return Gans(job.case, job.plan, device, job.root)


def _arm(
    job: QualityJob, course: Gans | Distillations, scheme: str, seed: int, images: int, setting: dict[str, float]
) -> QualityArm:
    if isinstance(course, Distillations):
        return course.arm(scheme, seed, images)
    return course.arm(_recipe(job, scheme, seed, images, setting), job.suite.fallback)


def _recipe(job: QualityJob, scheme: str, seed: int, images: int, setting: dict[str, float]) -> Recipe:
    """Return what an arm trains; the arms of a job differ in the scheme and, if tuned, in learning rates and betas."""
    variant = job.plan.variants[job.variant]
    rates = variant.model_dump(include={"generator_lr", "discriminator_lr"}, exclude_none=True)
    rates |= {key: value for key, value in setting.items() if key.endswith("_lr")}
    first, second = variant.betas or job.suite.optimizer.betas
    betas = setting.get("beta1", first), setting.get("beta2", second)
    return replace(
        recipe_of(job.case, scheme, job.suite.optimizer, seed),
        loss=with_regularizers(job.case.loss, variant.regularizers),
        optimizer=variant.optimizer,
        images=images,
        ema_half_life=job.plan.ema_half_life,
        augmentation=variant.augmentation or job.case.augmentation,
        penalty_schedule=job.plan.penalty_schedule,
        **({"schedule": job.plan.schedule, "betas": betas} | rates | job.suite.settings(job.case, scheme)),
    )


def _take_turns(job: QualityJob, arms: dict[str, QualityArm], failures: dict[str, str], report: Report) -> None:
    order = random.Random(f"{job.suite.seed} {job.seed}")
    goals = [*range(job.plan.evaluate_every, job.plan.images, job.plan.evaluate_every), job.plan.images]
    for index, goal in enumerate(goals):
        alive = [scheme for scheme in arms if scheme not in failures]
        order.shuffle(alive)
        for position, scheme in enumerate(alive):
            report(f"{scheme}: {goal:,} images", (index + position / len(alive)) / len(goals))
            try:
                arms[scheme].train_to(goal)
                arms[scheme].evaluate()
            except Exception as error:
                failures[scheme] = named(error)


def _found(job: QualityJob, scheme: str, arm: QualityArm | None, failure: str | None) -> Found:
    found: Found = {
        "status": "failed" if failure else "ok",
        "reason": failure,
        "setting": job.settings.get(scheme),
        "points": arm.points if arm else [],
        "samples": None,
    }
    if arm and arm.ran_as:
        found["ran_as"] = arm.ran_as
    if own := job.suite.settings(job.case, scheme):
        found["overrides"] = own
    if arm and arm.fallbacks:
        found["fallbacks"] = arm.fallbacks
    if arm and not failure and job.suite.samples.images:
        found["samples"] = save_grid(job.run, job.name, scheme, arm.sample(job.suite.samples.images))
    return found


def _tune(job: QualityJob, course: Gans | Distillations, report: Report) -> Found:
    """Try the settings of a part of the search for every scheme, with seeds that are not judged."""
    tune = job.plan.tune
    assert tune is not None
    tuned: Found = {}
    tasks = [(setting, scheme) for setting in tune.settings(job.trial, job.suite.seed) for scheme in job.schemes]
    for index, (setting, scheme) in enumerate(tasks):
        report(f"{scheme}: tuning", index / len(tasks))
        trial = _try(job, course, scheme, setting)
        tuned.setdefault(scheme, {"trials": []})["trials"].append(trial)
    for found in tuned.values():
        found["setting"] = best_setting(found["trials"])
    return tuned


def _try(job: QualityJob, course: Gans | Distillations, scheme: str, setting: dict[str, float]) -> Found:
    """Train a setting with every seed of the search; one that fails ends the trial, which then has no value."""
    tune = job.plan.tune
    assert tune is not None
    values: list[float | None] = []
    reason = None
    for seed in range(tune.seeds):
        try:
            arm = _arm(job, course, scheme, job.suite.seed + TUNING_SEED + seed, tune.images, setting)
            arm.train_to(tune.images)
            value = arm.judge()[0][course.facts["metric"]]
            values.append(value if math.isfinite(value) else None)
        except Exception as error:
            values.append(None)
            reason = named(error)
            break
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if len(known) == tune.seeds else None
    return {"setting": setting, "value": mean, "by_seed": values, "reason": reason}
