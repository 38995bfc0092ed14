"""Whether what a suite names exists and fits together: schemes, losses, engines, networks, games; builds no weight."""

import inspect
from collections.abc import Sequence

import torch

from bench.suite.cases import Case, Distill
from bench.suite.model import CONTROL, Suite
from bench.suite.plans import Quality, Variant, with_regularizers
from osgan import nets, spec
from osgan.augmentation import parse_augmentation
from osgan.building import SCHEMES
from osgan.data.sources import check_name
from osgan.distill.losses import as_loss as as_distillation_loss
from osgan.errors import InputError, unknown
from osgan.losses import as_loss
from osgan.nets.classifiers import build_classifier
from osgan.nets.dfad import build_generator
from osgan.regularizers import parse_loss
from osgan.training.engine import Engine
from osgan.training.optim import OPTIMIZERS
from osgan.training.schedule import Schedule


def check_names(suite: Suite) -> None:
    """Raise InputError for the first thing that does not exist or does not fit."""
    for scheme in suite.schemes:
        if scheme not in (*SCHEMES, CONTROL):
            raise unknown("scheme", scheme, (*SCHEMES, CONTROL))
    if CONTROL in suite.schemes:
        _check_control(suite)
    for override in suite.overrides:
        if override.scheme not in suite.schemes:
            raise unknown("scheme of an override", override.scheme, suite.schemes)
        if not any(override.applies(case, override.scheme) for case in suite.cases()):
            raise InputError(f"an override of {override.scheme} matches no case")
        if override.set.schedule:
            Schedule(override.set.schedule, num_steps=1)
    gans = [case for case in suite.cases() if case.is_gan]
    for case in gans:
        name, _ = parse_loss(case.loss)
        loss = as_loss(name)
        Engine.parse(case.engine, case.precision)
        parse_augmentation(case.augmentation, loss)
        if case.batch_size % suite.optimizer.accumulate:
            raise InputError(
                f"`accumulate` {suite.optimizer.accumulate} takes a batch in as many equal parts, and batch_size "
                f"{case.batch_size} is no multiple of it"
            )
    theirs = (override.set.architecture for override in suite.overrides if override.set.architecture)
    for architecture in dict.fromkeys([*(case.architecture for case in gans), *theirs]):
        with torch.device("meta"):
            nets.build(architecture, channels=3, num_classes=10)
    for dataset in dict.fromkeys(case.dataset for case in suite.cases() if case.game is None):
        check_name(dataset)
    for case in suite.cases():
        if case.distill:
            as_distillation_loss(case.loss)
            _check_players(case.distill)
        if case.game:
            _check_game(case.game, suite.schemes)
    if suite.timing is None and suite.quality is None:
        raise InputError("nothing to do: `timing` is null and there is no `quality`")
    if suite.quality:
        _check_quality(suite, suite.quality)


def _check_quality(suite: Suite, plan: Quality) -> None:
    if suite.games:
        raise InputError("quality of games is not measured: leave `games` out, or `quality`")
    of_gans = (plan.tune, plan.variants, plan.schedule, plan.penalty_schedule)
    if suite.distill and of_gans != (None, {"plain": Variant()}, "constant", "constant"):
        raise InputError(
            "variants, `tune`, `schedule` and `penalty_schedule` are for the GANs of `matrix`: leave them out, or "
            "`distill`"
        )
    if any(case.world_size > 1 for case in suite.cases()):
        raise InputError("quality is trained in one process: leave `world_size` out, or `quality`")
    for schedule in (plan.schedule, plan.penalty_schedule):
        Schedule(schedule, num_steps=1)
    trained = plan.schemes or suite.schemes
    for scheme in trained:
        if scheme not in suite.schemes:
            raise unknown("scheme to train", scheme, suite.schemes)
    if plan.level and plan.level.baseline not in trained:
        raise unknown("baseline of `level`", plan.level.baseline, trained)
    if plan.level and plan.level.variant not in (None, *plan.variants):
        raise unknown("variant of `level`", plan.level.variant, plan.variants)
    for name, variant in plan.variants.items():
        searched = [one for one in plan.variants if plan.searches(one)]
        if variant.setting_of not in (None, *searched):
            raise InputError(
                f"setting_of of variant {name!r} is {variant.setting_of!r}, which has no search of its own; those that "
                f"have: {', '.join(searched) or 'none'}"
            )
        if variant.optimizer not in OPTIMIZERS:
            raise unknown(f"optimizer of variant {name!r}:", variant.optimizer, OPTIMIZERS)
        for case in suite.cases():
            if case.is_gan:
                _check_variant(name, variant, case)


def _check_variant(name: str, variant: Variant, case: Case) -> None:
    try:
        loss, _ = parse_loss(with_regularizers(case.loss, variant.regularizers))
    except InputError as error:
        raise InputError(f"regularizers of variant {name!r}: {error}. They are written r1=0.1+r2=0.1") from None
    try:
        parse_augmentation(variant.augmentation or case.augmentation, as_loss(loss))
    except InputError as error:
        raise InputError(f"augmentation of variant {name!r}: {error}") from None


def _check_control(suite: Suite) -> None:
    if "one_stage" not in suite.schemes:
        raise InputError(f"{CONTROL} is a second one_stage and compared with the first: add one_stage to `schemes`")
    if suite.quality is not None:
        raise InputError(f"{CONTROL} is for timing alone: leave it out of `schemes`, or leave `quality` out")
    if any(override.scheme == CONTROL for override in suite.overrides):
        raise InputError(f"{CONTROL} takes the overrides of one_stage: it can have none of its own")


def _check_players(players: Distill) -> None:
    with torch.device("meta"):
        for classifier in (players.teacher, players.student):
            if classifier is not None:
                build_classifier(classifier, num_classes=10, channels=3)
        if players.generator is not None:
            build_generator(players.generator, channels=3)


def _check_game(game: str, schemes: Sequence[str]) -> None:
    found = spec.resolve("game", game, {})
    if not inspect.isclass(found):
        raise InputError(f"game {game!r} is no class, but {type(found).__name__}: its methods are the schemes")
    if not any(callable(getattr(found, scheme, None)) for scheme in schemes):
        raise InputError(f"game {game!r} has none of the schemes {', '.join(schemes)} as a method")
