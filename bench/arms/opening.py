"""The arms of a case: its data loaded on a device, and the builder of its arms by scheme, all from the same weights."""

import copy
from collections.abc import Callable

import torch

from bench.arms.arm import BenchArm
from bench.arms.game import DistillGame, open_game
from bench.arms.scheme import SchemeArm
from bench.suite.jobs import Job
from bench.suite.model import built_as
from bench.suite.plans import Adam
from osgan import data, nets
from osgan.errors import NotExactError


def open_arms(job: Job, device: torch.device) -> Callable[..., BenchArm]:
    """Load the data and return the builder of arms by scheme, each from the same weights; the control as one_stage."""
    build = _builder(job, device)
    return lambda scheme, batch_size=None: build(built_as(scheme), batch_size)


def _or_fallback(build: Callable[[str], BenchArm], scheme: str, fallback: str | None) -> BenchArm:
    """Build an arm, or the fallback's where the scheme is not exact for the case."""
    try:
        return build(scheme)
    except NotExactError as error:
        if fallback is None:
            raise
        arm = build(fallback)
        arm.ran_as, arm.ran_as_because = fallback, str(error)
        return arm


def _builder(job: Job, device: torch.device) -> Callable[..., BenchArm]:
    fallback = job.suite.fallback
    if job.case.game:
        play = open_game(job.case, device, job.suite.seed)
        return lambda scheme, batch_size=None: _or_fallback(lambda name: play(name, batch_size), scheme, fallback)
    if job.case.distill:
        game = DistillGame(job.case, device, job.root)
        return lambda scheme, batch_size=None: game.arm(scheme, job.suite.seed, batch_size)
    architecture = job.case.architecture
    dataset = data.load(job.case.dataset, resolution=nets.resolution_of(architecture), device=device, root=job.root)
    torch.manual_seed(job.suite.seed)
    start = nets.build(architecture, channels=dataset.image_shape[0], num_classes=dataset.num_classes)

    def networks_of(architecture: str) -> nets.Networks:
        networks = copy.deepcopy(start)
        if architecture != job.case.architecture:
            torch.manual_seed(job.suite.seed)
            networks = nets.build(architecture, channels=dataset.image_shape[0], num_classes=dataset.num_classes)
        networks.generator.to(device)
        networks.discriminator.to(device)
        return networks

    def arm_of(scheme: str, batch_size: int | None = None) -> BenchArm:
        own = job.suite.settings(job.case, scheme)
        rates = {key: value for key, value in own.items() if key in Adam.model_fields}
        optimizer = job.suite.optimizer.model_copy(update=rates)
        changes = {"batch_size": batch_size or job.case.batch_size}
        case = job.case.model_copy(update=changes | {k: v for k, v in own.items() if k == "architecture"})

        def build(scheme: str) -> SchemeArm:
            return SchemeArm(case, scheme, networks_of(case.architecture), dataset, optimizer, job.suite.seed)

        return _or_fallback(build, scheme, fallback)

    return arm_of
