import math

import pytest
import torch
from distill_reference import LOSSES, textbook

import osgan
from osgan.distill.losses import TERMS, DistillationLoss, TeacherOutputs, as_loss


@pytest.mark.parametrize("loss", LOSSES)
def test_values_are_those_of_the_textbook(loss):
    t, s, features = (torch.randn(6, n, dtype=torch.float64) * 3 for n in (4, 4, 7))
    mine, (of_student, of_generator) = as_loss(loss), textbook(loss)
    student_loss, terms = mine.of_student(t, s), mine.of_terms(TeacherOutputs(t, features))
    torch.testing.assert_close(student_loss, of_student(t, features, s), rtol=1e-12, atol=0)
    generator_loss = terms - student_loss if mine.adversarial else terms
    torch.testing.assert_close(generator_loss, of_generator(t, features, s), rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", ["l1", "kl+temperature=5"])
def test_who_agrees_has_nothing_to_lose(loss):
    logits = torch.randn(6, 4, dtype=torch.float64)
    assert abs(as_loss(loss).of_student(logits, logits)) <= 1e-15


def test_what_the_terms_reward():
    sure, unsure = (TeacherOutputs(torch.eye(4) * scale, torch.eye(4) * scale) for scale in (30.0, 0.0))
    assert TERMS["one_hot"](sure) < 1e-6
    assert TERMS["one_hot"](unsure) == pytest.approx(math.log(4))
    assert TERMS["activation"](sure) < TERMS["activation"](unsure) == 0
    even, odd = TeacherOutputs(torch.eye(4) * 200), TeacherOutputs(torch.tensor([[200.0, 0, 0, 0]] * 4))
    assert TERMS["information_entropy"](even) == pytest.approx(-math.log(4))
    assert TERMS["information_entropy"](odd) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_bfloat16_logits_are_compared_in_float32(loss):
    t, s, features = (torch.randn(6, n, dtype=torch.bfloat16) for n in (4, 4, 7))
    mine = as_loss(loss)
    assert mine.of_student(t, s).dtype == mine.of_terms(TeacherOutputs(t, features)).dtype == torch.float32


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        ("l2", "unknown distillation loss 'l2'.*There is: kl, l1"),
        ("l1+onehot=1", "unknown option 'onehot'. Did you mean 'one_hot'"),
        ("l1+temperature=4", "unknown option 'temperature'"),
        ("kl+temperature=0", "temperature must be a number above 0, got 0"),
        ("l1+one_hot=True", "one_hot must be a number above 0, got True"),
        ("l1+adversarial=0", "adversarial must be True or False, got 0"),
        ("l1+adversarial=False", "nothing trains the generator"),
        ("l1+one_hot", "cannot read"),
    ],
)
def test_mistakes(loss, match):
    with pytest.raises(osgan.InputError, match=match):
        as_loss(loss)


def test_a_loss_of_ones_own():
    mine = DistillationLoss("squares", lambda teacher, student: (teacher - student).square().mean())
    assert as_loss(mine) is mine
    assert mine.adversarial
    assert not mine.reads_features
