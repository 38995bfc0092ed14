import copy

import pytest
import torch
from distill_reference import CLASSES, SCHEMES, Classifier, make_generator, make_players, make_scheme
from reference import changed, snapshot, with_gradients
from torch import nn

import osgan
import osgan.distill


def refuse(players, match, loss="l1", name="one_stage"):
    scheme = make_scheme(name, players, loss)
    before = snapshot(*players)
    with pytest.raises(osgan.InputError, match=match):
        scheme()
    assert changed(before, snapshot(*players)) == []


@pytest.mark.parametrize("name", SCHEMES)
def test_a_teacher_in_train_mode(name):
    teacher, student, generator = make_players()
    refuse((teacher.train(), student, generator), r"teacher is in train mode.*teacher\.eval\(\)", name=name)
    teacher.eval()
    teacher.body[1].train()
    refuse((teacher, student, generator), r"train mode \(at 'body\.1'\)", name=name)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_student_of_other_classes(name):
    teacher, _, generator = make_players()
    refuse((teacher, Classifier(classes=CLASSES + 1).double(), generator), r"teacher knows 4 classes and the student 5")


def test_a_student_that_is_the_teacher():
    teacher, _, generator = make_players()
    refuse((teacher, teacher, generator), "teacher and the student are one and the same network")


def test_players_that_share_weights_or_statistics():
    teacher, student, generator = make_players()
    student.last = teacher.last
    refuse((teacher, student, generator), r"teacher and the student share 'last\.weight'")
    teacher, student, generator = make_players()
    student.last.weight = nn.Parameter(teacher.last.weight.detach())  # another parameter over the same memory
    refuse((teacher, student, generator), r"share 'last\.weight'")
    teacher, student, generator = make_players()
    student.body[1] = nn.BatchNorm2d(4).double()
    generator[3].running_mean = student.body[1].running_mean
    refuse((teacher, student, generator), r"student and the generator share 'body\.1\.running_mean'")


def test_an_optimizer_of_somebody_elses_weights():
    teacher, student, generator = make_players()
    for wrong, match in (((teacher, generator), "student's optimizer"), ((student, teacher), "generator's optimizer")):
        scheme = make_scheme("one_stage", (teacher, student, generator))
        scheme.student_optimizer, scheme.generator_optimizer = (
            torch.optim.SGD(network.parameters(), lr=0.1) for network in wrong
        )
        with pytest.raises(osgan.InputError, match=match):
            scheme()


def test_images_of_the_wrong_shape():
    teacher, student, _ = make_players()
    generator = nn.Sequential(nn.Linear(5, 128), nn.Unflatten(1, (2, 8, 8))).double()
    refuse((teacher, student, generator), r"the teacher cannot take the generator's images, \(2, 2, 8, 8\)")


def test_outputs_that_are_no_logits():
    teacher, student, generator = make_players()

    class Pair(Classifier):
        def forward(self, x):
            return self.with_features(x)

    refuse((Pair().double().eval(), student, generator), "the teacher must return one tensor, but returned tuple")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0)).double()
    refuse((teacher, flat, generator), r"the student must return logits \(N, classes\).*\(2,\)")


def test_features_of_a_teacher_that_has_none():
    _, student, generator = make_players()
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)).double().eval()
    players = teacher, student, generator
    refuse(players, r"activation.*with_features\(images\)", loss="l1+activation=0.1")
    make_scheme("one_stage", players, "l1+one_hot=1")()


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("student_steps", 0), ("student_steps", 2.5)])
def test_counts(option, value):
    players = make_players()
    options = {"latent": None, "batch_size": 4, "student_steps": 1} | {option: value}
    with pytest.raises(osgan.InputError, match=f"{option} must be a whole number above 0, got {value}"):
        osgan.distill.build_scheme("one_stage", *players, None, None, **options)


@pytest.mark.parametrize("name", SCHEMES)
def test_checking_leaves_no_trace(name):
    players = make_players()
    with_gradients(*players)
    before = snapshot(*players)
    make_scheme(name, players).prepare()
    assert changed(before, snapshot(*players)) == []


def test_a_copy_of_the_teacher_is_a_fine_student():
    teacher, _, _ = make_players()
    make_scheme("one_stage", (teacher, copy.deepcopy(teacher).train(), make_generator().double()), lr=0.1)()
