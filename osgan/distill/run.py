"""A run of distillation: players, optimizers and schedule from the settings, accuracy against training seconds.

The student sees the generator's images and nothing else. Data is for measuring, between the timed stretches.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from osgan.distill.schemes import DistillationScheme, DistillationStats, build_scheme
from osgan.distill.settings import Settings, is_milestone
from osgan.nets.classifiers import build_classifier
from osgan.nets.dfad import build_generator
from osgan.training.finite import finite_losses


class Point(NamedTuple):
    """Where a run stands after so many steps."""

    step: int
    training_seconds: float
    accuracy: float
    student_loss: float | None
    """Mean over the steps since the last point; None before the first step."""
    generator_loss: float | None


class Distillation:
    """Players, optimizers and schedule of one run over a trained teacher; the seed decides every weight and latent."""

    def __init__(self, teacher: nn.Module, settings: Settings, *, num_classes: int, channels: int) -> None:
        device = next(teacher.parameters()).device
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.teacher = teacher
        self.student: nn.Module = build_classifier(settings.student, num_classes=num_classes, channels=channels)
        self.generator, self.latent = build_generator(settings.generator, channels=channels)
        self.student.to(device)
        self.generator.to(device)
        self.student_optimizer = torch.optim.SGD(
            self.student.parameters(),
            settings.student_lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), settings.generator_lr)
        self.scheme: DistillationScheme = build_scheme(
            settings.scheme,
            teacher,
            self.student,
            self.generator,
            self.student_optimizer,
            self.generator_optimizer,
            latent=self.latent,
            batch_size=settings.batch_size,
            loss=settings.loss,
            student_steps=settings.student_steps,
        )
        self.scheme.prepare()
        self.steps_done = 0
        self._pending: list[DistillationStats] = []

    def run(self, steps: int) -> None:
        """Take that many steps; waits for nothing on the device."""
        for _ in range(steps):
            self._pending.append(self.scheme.step())
            self.steps_done += 1
            if is_milestone(self.steps_done, self.settings.steps, self.settings.milestones):
                for optimizer in (self.student_optimizer, self.generator_optimizer):
                    for group in optimizer.param_groups:
                        group["lr"] /= 10

    def losses(self) -> tuple[float, float]:
        """Wait for the steps since the last call; return the means of their student's and generator's loss.

        Raises NonFiniteLossError, with the step and the loss's name, if one is not finite.
        """
        pending, self._pending = self._pending, []
        values = finite_losses(
            pending,
            first_step=self.steps_done - len(pending),
            loss=self.settings.loss,
            remedy="lower the learning rates",
        )
        student_loss, generator_loss = torch.tensor(values, dtype=torch.float64).mean(dim=0).tolist()
        return student_loss, generator_loss


def distill(
    run: Distillation,
    accuracy: Callable[[nn.Module], float],
    *,
    every: int = 100,
    on_point: Callable[[Point], None] | None = None,
) -> list[Point]:
    """Run to the end; measure the student's accuracy before the first step, every so many steps and at the end."""
    points = [Point(0, 0.0, accuracy(run.student), None, None)]
    while run.steps_done < run.settings.steps:
        start = time.perf_counter()
        run.run(min(every, run.settings.steps - run.steps_done))
        losses = run.losses()  # waits for the device: the stretch ends here
        seconds = points[-1].training_seconds + time.perf_counter() - start
        points.append(Point(run.steps_done, seconds, accuracy(run.student), *losses))
        if on_point is not None:
            on_point(points[-1])
    return points
