import copy
import math
import os
from dataclasses import replace

import pytest
import torch
from distill_reference import CLASSES, LATENT_DIM, Classifier, make_generator
from reference import changed, snapshot
from safetensors.torch import load_file
from torch import nn

import osgan
from osgan import distill
from osgan.distill.settings import COLOUR, DIGITS, GREY, is_milestone
from osgan.distill.split import LabelledImages, Split, load_split
from osgan.distill.teacher import augment, cache_file


def build_teacher(num_classes):
    return Classifier(8, num_classes)


def build_student(num_classes):
    return Classifier(4, num_classes)


def build_generator():
    return make_generator()


HERE = "test_run"
TEACHER = distill.TeacherSettings(network=f"{HERE}:build_teacher", epochs=4, batch_size=16, lr=0.05)
SETTINGS = distill.Settings(
    student=f"{HERE}:build_student", generator=f"{HERE}:build_generator", steps=7, batch_size=8, student_steps=2
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Let this module be found by the import path that a user would write."""
    monkeypatch.setitem(__import__("sys").modules, HERE, __import__("sys").modules[__name__])


def make_split(n=80):
    """Bars whose row is their class, in noise."""
    labels = torch.arange(n) % CLASSES
    images = torch.randint(0, 120, (n, 1, 8, 8), dtype=torch.uint8)
    images[torch.arange(n), 0, 2 * labels] = 230
    parts = [LabelledImages(images=images[rows], labels=labels[rows]) for rows in (slice(0, -20), slice(n - 20, None))]
    grey = images.float() / 255
    return Split(
        name="bars",
        train=parts[0],
        test=parts[1],
        num_classes=CLASSES,
        mean=grey.mean().view(1, 1, 1),
        std=grey.std().view(1, 1, 1),
        held_out="the last 20",
    )


def make_run(teacher=None, **changes):
    teacher = teacher or Classifier(8).eval()
    return distill.Distillation(teacher, replace(SETTINGS, **changes), num_classes=CLASSES, channels=1)


def test_points_of_a_run():
    seen = []
    points = distill.distill(make_run(), lambda student: 0.5 + student.training, every=3, on_point=seen.append)
    assert [point.step for point in points] == [0, 3, 6, 7]
    assert seen == points[1:]
    assert [point.accuracy for point in points] == [1.5] * 4
    assert points[0][3:] == (None, None)
    seconds = [point.training_seconds for point in points]
    assert seconds[0] == 0
    assert seconds == sorted(seconds)
    assert all(point.student_loss == -point.generator_loss > 0 for point in points[1:])


@pytest.mark.parametrize("scheme", distill.SCHEMES)
def test_a_student_learns_without_data(scheme, tmp_path):
    split = make_split()
    teacher = distill.load_teacher(split, replace(TEACHER, epochs=12), train=True, cache=tmp_path)
    run = make_run(teacher, scheme=scheme, steps=150, batch_size=32, student_lr=0.05, milestones=(0.5, 0.8))
    points = distill.distill(run, split.accuracy, every=150)
    assert split.accuracy(teacher) == 1
    assert points[0].accuracy < 0.6
    assert points[-1].accuracy >= 0.9


def test_the_seed_decides_the_run():
    teacher = Classifier(8).eval()
    runs = [make_run(teacher, seed=seed) for seed in (3, 3, 4)]
    for run in runs:
        torch.manual_seed(run.settings.seed)
        run.run(3)
    first, again, other = (torch.cat([p.flatten() for p in run.student.parameters()]) for run in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_learning_rates_drop_at_the_milestones():
    run = make_run(steps=10, milestones=(0.3, 0.8), student_lr=0.2, generator_lr=0.01)
    rates = []
    for _ in range(10):
        run.run(1)
        rates.append((run.student_optimizer.param_groups[0]["lr"], run.generator_optimizer.param_groups[0]["lr"]))
    for step, (student, generator) in enumerate(rates, 1):
        drops = (step >= 3) + (step >= 8)
        assert (student, generator) == pytest.approx((0.2 / 10**drops, 0.01 / 10**drops))
    assert sum(is_milestone(step, 25_000, (0.2, 0.4)) for step in range(1, 25_001)) == 2


def test_a_loss_that_is_not_finite_is_named():
    run = make_run()
    run.run(2)
    with torch.no_grad():
        run.student.last.bias.fill_(math.nan)
    run.run(2)
    with pytest.raises(osgan.NonFiniteLossError, match=r"student_loss of l1 is nan at step 3; lower"):
        run.losses()


def test_measuring_moves_nothing():
    split, student = make_split(), Classifier(4)
    student.body[1].eval()  # a mode of its own, which it keeps
    before, modes = snapshot(student), [module.training for module in student.modules()]
    split.accuracy(student)
    assert changed(before, snapshot(student)) == []
    assert [module.training for module in student.modules()] == modes


def test_accuracy_is_that_of_the_test_part_in_eval_mode():
    split, student = make_split(), Classifier(4)
    reference = copy.deepcopy(student).eval()
    predicted = reference(split.standardise(split.test.images)).argmax(1)
    assert split.accuracy(student) == (predicted == split.test.labels).double().mean().item()


def test_the_teacher_is_trained_once_and_kept(tmp_path):
    split, epochs = make_split(), []
    note = lambda done, total: epochs.append((done, total))  # noqa: E731
    first = distill.load_teacher(split, TEACHER, train=True, cache=tmp_path, on_epoch=note)
    assert epochs == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert split.accuracy(first) > 0.9
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".safetensors"
    assert load_file(file).keys() == first.state_dict().keys()
    again = distill.load_teacher(split, TEACHER, cache=tmp_path, on_epoch=note)
    assert len(epochs) == 4
    assert not any(module.training for network in (first, again) for module in network.modules())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_another_teacher_has_another_file(tmp_path):
    split, teacher = make_split(), Classifier(8)
    other_split = make_split(96)
    files = [
        cache_file(teacher, split, TEACHER, tmp_path),
        cache_file(teacher, split, replace(TEACHER, lr=0.04), tmp_path),
        cache_file(teacher, other_split, TEACHER, tmp_path),
        cache_file(Classifier(9), split, TEACHER, tmp_path),
    ]
    assert len(set(files)) == 4
    assert cache_file(Classifier(8), split, TEACHER, tmp_path) == files[0]


def test_a_teacher_that_is_not_there(tmp_path):
    split = make_split()
    settings = replace(TEACHER, network="lenet5")
    with pytest.raises(osgan.InputError, match=r"no trained teacher 'lenet5' for 'bars'.*--train-teacher"):
        distill.load_teacher(split, settings, cache=tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    for name in ("broken", "missing"):
        with pytest.raises(osgan.InputError, match=rf"weights in .*{name}.safetensors cannot be loaded"):
            distill.load_teacher(split, settings, weights=tmp_path / f"{name}.safetensors")
    theirs = distill.load_teacher(split, TEACHER, cache=tmp_path)  # at an import path, taken as it is built
    assert not theirs.training


def test_weights_from_a_file(tmp_path):
    trained, file = Classifier(8), tmp_path / "deep" / "teacher.safetensors"
    distill.save_weights(trained, file)
    assert [entry.name for entry in file.parent.iterdir()] == ["teacher.safetensors"]
    teacher = distill.load_teacher(make_split(), TEACHER, weights=file)
    assert torch.equal(teacher.last.weight, trained.last.weight)


def test_a_teacher_that_diverges_is_named(tmp_path):
    with pytest.raises(osgan.NonFiniteLossError, match=r"teacher's loss is .* after epoch 1; lower"):
        distill.load_teacher(make_split(), replace(TEACHER, lr=1e30), train=True, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_augmented_images_are_crops_of_padded_ones():
    images = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).repeat(200, 2, 1, 1)
    found = augment(images, torch.Generator().manual_seed(0))
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    padded = nn.functional.pad(images[0], (4, 4, 4, 4))
    crops = [padded[:, y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
    accepted = {crop.numpy().tobytes() for each in crops for crop in (each.contiguous(), each.flip(2).contiguous())}
    drawn = {image.numpy().tobytes() for image in found}
    assert drawn <= accepted
    assert len(drawn) > 100


def test_digits_hold_a_fifth_out():
    split = load_split("digits", device="cpu")
    assert (len(split.train.images), len(split.test.images)) == (1438, 359)
    assert split.train.images.shape[1:] == (1, 32, 32)
    assert split.num_classes == 10
    assert split.held_out == "359 of 1797 images, the last of a fixed permutation"
    pixels = split.standardise(split.train.images)
    assert (pixels.mean().item(), pixels.std().item()) == pytest.approx((0, 1), abs=1e-4)
    everything = torch.cat([split.train.images, split.test.images]).flatten(1)
    whole = osgan.data.load("digits", resolution=32, device="cpu").images(1797)
    assert torch.equal(everything.long().sum(0), (whole * 127.5 + 127.5).round().long().sum(0).flatten())


def test_data_without_labels_is_refused():
    with pytest.raises(osgan.InputError, match=r"'synthetic.images=8' has no labels"):
        load_split("synthetic+images=8", device="cpu")


def test_settings_are_checked_and_published_ones_are_the_defaults():
    assert distill.defaults_for("mnist", 1) == GREY == (distill.TeacherSettings(), distill.Settings())
    assert distill.defaults_for("cifar10", 3) == COLOUR
    assert distill.defaults_for("digits", 1) == DIGITS
    assert (GREY[1].steps, GREY[1].batch_size, GREY[1].student_steps) == (40 * 50, 512, 5)
    assert (COLOUR[1].steps, COLOUR[1].batch_size, COLOUR[0].epochs) == (500 * 50, 256, 200)
    for change, match in (
        ({"steps": 0}, "steps must be a whole number"),
        ({"student_lr": -1.0}, "student_lr must be a number above 0"),
        ({"milestones": (50,)}, "shares of the run"),
        ({"steps": -(10**5000)}, "steps must be a whole number.*thousands of digits"),
        ({"student_lr": 10**400}, "student_lr must be a number above 0"),
        ({"momentum": float("nan")}, "momentum must be a number from 0"),
        ({"seed": 10**5000}, "seed must be a whole number of 64 bits.*thousands of digits"),
    ):
        with pytest.raises(osgan.InputError, match=match):
            replace(SETTINGS, **change)


def test_latents_come_from_the_generator():
    assert make_run().latent == osgan.Gaussian(LATENT_DIM)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["one_stage", "two_stage_frozen"])
def test_digits_reach_nine_tenths_of_the_teacher(scheme, tmp_path):
    split = load_split("digits", device="cpu")
    teacher = distill.load_teacher(split, DIGITS[0], train=True, cache=tmp_path)
    settings = replace(DIGITS[1], scheme=scheme)
    points = distill.distill(
        distill.Distillation(teacher, settings, num_classes=10, channels=1), split.accuracy, every=500
    )
    assert split.accuracy(teacher) > 0.96
    assert points[-1].accuracy >= 0.9 * split.accuracy(teacher)


@pytest.mark.slow
@pytest.mark.skipif("OSGAN_DATA" not in os.environ, reason="MNIST is read from OSGAN_DATA")
def test_mnist_reaches_95_percent(tmp_path):
    split = load_split("mnist", device="cpu")
    assert split.held_out == "mnist's own test split"
    assert (len(split.train.images), len(split.test.images)) == (60_000, 10_000)
    teacher = distill.load_teacher(split, replace(GREY[0], epochs=4), train=True, cache=tmp_path)
    settings = replace(GREY[1], generator="dfad+width=8", batch_size=64, steps=800, milestones=(0.5, 0.8))
    points = distill.distill(
        distill.Distillation(teacher, settings, num_classes=10, channels=1), split.accuracy, every=800
    )
    assert points[-1].accuracy >= 0.95
