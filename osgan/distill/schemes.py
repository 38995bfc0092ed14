"""The steps of data-free distillation: k updates of the student and one of the generator, behind one signature.

OneStage is the OSGAN paper's scheme for DFAD (Fang et al. 2019), TwoStage what it is compared with. The
generator's loss is the student's with its sign turned, so one backward pass carries both gradients, whatever the
student's norm: no ratio, and nothing assumed of how it treats a batch. A step reads no data and waits for nothing on
the device; schedules, logs and accuracy are other people's business.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from osgan.distill.checks import check_players
from osgan.distill.losses import DistillationLoss, TeacherOutputs, as_loss
from osgan.errors import InputError, unknown
from osgan.latent import Latent
from osgan.passes import one_pass, onward, tap, two_passes
from osgan.step import frozen


class DistillationStats(NamedTuple):
    """Losses of one step, scalars that stay on the device: the student's in its last update, and the generator's."""

    student_loss: Tensor
    generator_loss: Tensor


class DistillationScheme:
    """One step of distillation: `step()` updates the student `student_steps` times and the generator once.

    The teacher and the student map images (N, C, H, W) to logits (N, K), the generator maps latents to images. The
    teacher stays in eval mode and as it was, bit for bit. `student_steps` - 1 of the updates are the same in every
    scheme but TwoStage without `freeze`; what differs is how the generator's gradient is had. The first step checks the
    players (`osgan.distill.checks`).

    Args:
        teacher: Trained, images (N, C, H, W) to logits (N, K); not changed.
        student: The same, with weights of its own.
        generator: Latents, as `latent` gives them, to images (N, C, H, W).
        student_optimizer: Holds the student's weights.
        generator_optimizer: Holds the generator's weights.
        latent: Called with N and a device, gives N latents.
        batch_size: Images an update, N.
        loss: Its name (`osgan.distill.losses`), or a loss of one's own.
        student_steps: Updates of the student for one of the generator.

    Raises:
        InputError: For numbers below 1 and a loss that does not exist.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        generator: nn.Module,
        student_optimizer: Optimizer,
        generator_optimizer: Optimizer,
        *,
        latent: Latent,
        batch_size: int,
        loss: str | DistillationLoss = "l1",
        student_steps: int = 5,
    ) -> None:
        for name, value in {"batch_size": batch_size, "student_steps": student_steps}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number above 0, got {value!r}")
        self.teacher = teacher
        self.student = student
        self.generator = generator
        self.student_optimizer = student_optimizer
        self.generator_optimizer = generator_optimizer
        self.latent = latent
        self.batch_size = batch_size
        self.loss = as_loss(loss)
        self.student_steps = student_steps
        self.prepared = False

    def __call__(self) -> DistillationStats:
        """Update the student `student_steps` times and the generator once."""
        if not self.prepared:
            self.prepare()
        return self.step()

    def prepare(self) -> None:
        """Check the players; raises InputError for what cannot be distilled."""
        check_players(
            self.teacher,
            self.student,
            self.generator,
            self.student_optimizer,
            self.generator_optimizer,
            latent=self.latent,
            loss=self.loss,
        )
        self.prepared = True

    def step(self) -> DistillationStats:
        """Do the scheme's step."""
        raise NotImplementedError

    def generate(self) -> Tensor:
        """Make a batch of images (batch_size, C, H, W)."""
        images: Tensor = self.generator(self.latent(self.batch_size, next(self.generator.parameters()).device))
        return images

    def observe(self, images: Tensor) -> TeacherOutputs:
        """Return the teacher's logits, and its features if the loss reads them."""
        if self.loss.reads_features:
            return TeacherOutputs(*self.teacher.with_features(images))  # type: ignore[operator]
        return TeacherOutputs(self.teacher(images))

    def update_student(self, *, graph: bool = False) -> Tensor:
        """Take one step of the student on images of its own; `graph` records the generator's pass for nothing."""
        self.student_optimizer.zero_grad()
        with torch.set_grad_enabled(graph):
            images = self.generate().detach()
            teacher_logits = self.teacher(images).detach()
        loss = self.loss.of_student(teacher_logits, self.student(images))
        loss.backward()
        self.student_optimizer.step()
        return loss.detach()

    def play(self) -> tuple[Tensor, Tensor, Tensor]:
        """Show a fresh batch to the teacher and the student once: the images' leaf, the student's loss, the terms.

        The gradient that arrives at the leaf is the sum over both of the ways an image goes, unless the generator's
        loss is made of its terms alone: then the student's way is cut.
        """
        images = self.generate()
        leaf = tap(images)
        with frozen(self.teacher):  # decided as the graph is made: its weights get no gradient, the images do
            outputs = self.observe(leaf)
        if self.loss.adversarial:
            student_loss = self.loss.of_student(outputs.logits, self.student(leaf))
        else:
            student_loss = self.loss.of_student(outputs.logits.detach(), self.student(leaf.detach()))
        return leaf, student_loss, self.loss.of_terms(outputs)

    def of_generator(self, student_loss: Tensor, terms: Tensor) -> Tensor:
        """Return the generator's loss."""
        return terms - student_loss if self.loss.adversarial else terms

    def update_both(self, student_loss: Tensor, terms: Tensor) -> DistillationStats:
        """Take both optimizers' steps; returns the losses they were taken for."""
        self.student_optimizer.step()
        self.generator_optimizer.step()
        return DistillationStats(student_loss.detach(), self.of_generator(student_loss, terms).detach())


class OneStage(DistillationScheme):
    """The generator's update is merged into the last of the student's: the same images, one forward, one backward."""

    def step(self) -> DistillationStats:
        """Send the student's gradient back to the images, and its negative on into the generator."""
        for _ in range(self.student_steps - 1):
            self.update_student()
        self.student_optimizer.zero_grad()
        self.generator_optimizer.zero_grad()
        leaf, student_loss, terms = self.play()
        # No path leads from the terms to a weight of the student: with their sign turned they ride along to the images.
        onward([leaf], one_pass([leaf], [student_loss - terms], [None], [-1.0]))  # dL_G/dx = -d(L_S - terms)/dx
        return self.update_both(student_loss, terms)


class Simultaneous(DistillationScheme):
    """The same images and one forward for the last update, but two backward passes through the student."""

    def step(self) -> DistillationStats:
        """Take both gradients at the same weights, then update both."""
        for _ in range(self.student_steps - 1):
            self.update_student()
        self.student_optimizer.zero_grad()
        self.generator_optimizer.zero_grad()
        leaf, student_loss, terms = self.play()
        weights = [weight for weight in self.student.parameters() if weight.requires_grad]
        of_generator = self.of_generator(student_loss, terms)
        onward([leaf], two_passes([leaf], [of_generator], [None], [student_loss], [None], weights))
        return self.update_both(student_loss, terms)


class TwoStage(DistillationScheme):
    """The student's updates, then the generator's on a fresh batch, against the student that has just moved.

    Without `freeze` as DFAD published it: images for the student are made with a graph that is thrown away, and the
    generator's update computes gradients of the teacher's and the student's weights that nobody uses.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        generator: nn.Module,
        student_optimizer: Optimizer,
        generator_optimizer: Optimizer,
        *,
        latent: Latent,
        batch_size: int,
        loss: str | DistillationLoss = "l1",
        student_steps: int = 5,
        freeze: bool = False,
    ) -> None:
        players = teacher, student, generator, student_optimizer, generator_optimizer
        super().__init__(*players, latent=latent, batch_size=batch_size, loss=loss, student_steps=student_steps)
        self.freeze = freeze

    def step(self) -> DistillationStats:
        """Update the student, then the generator."""
        for _ in range(self.student_steps):
            student_loss = self.update_student(graph=not self.freeze)
        self.generator_optimizer.zero_grad()
        images = self.generate()
        with ExitStack() as thaw:
            if self.freeze:
                thaw.enter_context(frozen(self.teacher))
                thaw.enter_context(frozen(self.student))
            outputs = self.observe(images)
            generator_loss = self.loss.of_terms(outputs)
            if self.loss.adversarial:
                generator_loss = generator_loss - self.loss.of_student(outputs.logits, self.student(images))
            generator_loss.backward()
        if not self.freeze:
            self.teacher.zero_grad()  # else they would add up from step to step
        self.generator_optimizer.step()
        return DistillationStats(student_loss, generator_loss.detach())


SCHEMES: dict[str, Callable[..., DistillationScheme]] = {
    "two_stage": partial(TwoStage, freeze=False),
    "two_stage_frozen": partial(TwoStage, freeze=True),
    "simultaneous": Simultaneous,
    "one_stage": OneStage,
}
"""By name, what `build_scheme` builds."""


def build_scheme(
    name: str,
    teacher: nn.Module,
    student: nn.Module,
    generator: nn.Module,
    student_optimizer: Optimizer,
    generator_optimizer: Optimizer,
    *,
    latent: Latent,
    batch_size: int,
    loss: str | DistillationLoss = "l1",
    student_steps: int = 5,
) -> DistillationScheme:
    """Build a scheme by its name, with the arguments of DistillationScheme; raises InputError for an unknown name."""
    if name not in SCHEMES:
        raise unknown("distillation scheme", name, SCHEMES)
    players = teacher, student, generator, student_optimizer, generator_optimizer
    return SCHEMES[name](*players, latent=latent, batch_size=batch_size, loss=loss, student_steps=student_steps)
