"""Losses of data-free distillation: what the student minimises, and what the generator adds to its negative.

Fang et al. 2019 (DFAD): the student's loss measures how far its logits are from the teacher's, and the generator's is
its negative. Chen et al. 2019 (DAFL): the generator's images should look like data to the teacher. A term of the second
kind reads the teacher alone, so it reaches no weight of the student and fits the same backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, l1_loss, log_softmax, softmax

from osgan import spec
from osgan.errors import InputError, unknown
from osgan.losses import at_least_float32

Agreement = Callable[[Tensor, Tensor], Tensor]
"""(teacher's logits, student's logits), both (N, K, ...) -> a scalar, 0 where they agree."""


class TeacherOutputs(NamedTuple):
    """What the teacher says of a batch of images."""

    logits: Tensor
    """(N, K)"""
    features: Tensor | None = None
    """(N, F), what its last layer reads; only where a term asks for it"""


Term = Callable[[TeacherOutputs], Tensor]


def l1(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean absolute difference of the logits (DFAD)."""
    return l1_loss(student, teacher)


def kl(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Return temperature^2 KL(teacher || student), a mean over images (Hinton et al. 2015)."""
    of_student, of_teacher = (log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return kl_div(of_student, of_teacher, reduction="batchmean", log_target=True) * temperature**2


def one_hot(outputs: TeacherOutputs) -> Tensor:
    """Return the cross-entropy of the teacher with the class it prefers (DAFL)."""
    return cross_entropy(outputs.logits, outputs.logits.detach().argmax(dim=1))


def activation(outputs: TeacherOutputs) -> Tensor:
    """Return minus the mean absolute feature of the teacher (DAFL)."""
    assert outputs.features is not None
    return -outputs.features.abs().mean()


def information_entropy(outputs: TeacherOutputs) -> Tensor:
    """Return minus the entropy, in nats, of the classes over the batch (DAFL)."""
    share = softmax(outputs.logits, dim=1).mean(dim=0)
    return (share * share.clamp_min(1e-12).log()).sum()


AGREEMENTS: dict[str, Agreement] = {"l1": l1, "kl": kl}
TERMS: dict[str, Term] = {"one_hot": one_hot, "activation": activation, "information_entropy": information_entropy}


@dataclass(frozen=True)
class DistillationLoss:
    """The student minimises `agreement`; the generator minimises its negative plus the weighted terms.

    Without `adversarial` the generator minimises the terms alone and never sees the student, as in DAFL.
    """

    name: str
    agreement: Agreement
    terms: tuple[tuple[float, Term], ...] = ()
    adversarial: bool = True

    @property
    def reads_features(self) -> bool:
        """Whether a term needs the teacher's features."""
        return any(term is activation for _, term in self.terms)

    def of_student(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        """Return the student's loss, a scalar in float32 or better."""
        return self.agreement(at_least_float32(teacher_logits), at_least_float32(student_logits))

    def of_terms(self, outputs: TeacherOutputs) -> Tensor:
        """Return the weighted sum of the generator's own terms, a scalar in float32 or better."""
        features = None if outputs.features is None else at_least_float32(outputs.features)
        outputs = TeacherOutputs(at_least_float32(outputs.logits), features)
        return sum((weight * term(outputs) for weight, term in self.terms), outputs.logits.new_zeros(()))


def as_loss(loss: str | DistillationLoss) -> DistillationLoss:
    """Read a loss as it is written on the command line; a DistillationLoss is returned as it is.

    `l1`; `kl+temperature=4`; `l1+one_hot=1+activation=0.1+information_entropy=5`, terms of the generator with their
    weights; `kl+adversarial=False+one_hot=1`, DAFL's own game. Raises InputError for anything else.
    """
    if isinstance(loss, DistillationLoss):
        return loss
    parsed = spec.parse(loss)
    options = dict(parsed.options)
    if parsed.name not in AGREEMENTS:
        raise unknown("distillation loss", parsed.name, AGREEMENTS)
    agreement = AGREEMENTS[parsed.name]
    if agreement is kl:
        agreement = partial(kl, temperature=_positive(loss, "temperature", options.pop("temperature", 1.0)))
    adversarial = options.pop("adversarial", True)
    if not isinstance(adversarial, bool):
        raise InputError(f"distillation loss {loss!r}: adversarial must be True or False, got {adversarial!r}")
    for key in options:
        if key not in TERMS:
            accepted = [*TERMS, "adversarial", *(["temperature"] if parsed.name == "kl" else [])]
            raise InputError(f"distillation loss {loss!r}: {unknown('option', key, accepted)}")
    if not adversarial and not options:
        raise InputError(f"distillation loss {loss!r}: nothing trains the generator; add one_hot=1 or another term")
    terms = tuple((_positive(loss, key, weight), TERMS[key]) for key, weight in options.items())
    return DistillationLoss(loss, agreement, terms, adversarial)


def _positive(loss: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"distillation loss {loss!r}: {key} must be a number above 0, got {value!r}")
    return float(value)
