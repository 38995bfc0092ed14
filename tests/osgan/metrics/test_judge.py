import math
import random
import re

import numpy as np
import pytest
import torch
import torch_fidelity
from torch import nn

from osgan.errors import InputError
from osgan.metrics import METRICS, Judge

STUB = "stub_extractors:pixels"
SMALL = "efficientnet-lite0+size=64"  # the same network on smaller images: a tenth of the time
EVERY_DISTANCE = ("fd", "kd", "precision_recall")


@pytest.fixture
def judge_of(tmp_path):
    def make(real, extractor=STUB, num_images=64, **kwargs):
        return Judge(real, extractor=extractor, num_images=num_images, cache=tmp_path / "cache", **kwargs)

    return make


def random_images(n, *shape, seed=0):
    levels = torch.randint(0, 256, (n, *(shape or (1, 4, 4))), generator=torch.Generator().manual_seed(seed))
    return (levels - 127.5) / 127.5


# What the numbers are


def test_a_set_is_at_distance_zero_from_itself(digits, judge_of, replay):
    judge = judge_of(digits, SMALL, num_real=150, num_images=150)
    itself = digits.images(judge._real_indices)
    assert abs(judge(replay(itself)).values["FD-EfficientNetLite0@64"]) < 1e-3
    assert judge(replay(itself.roll(1, -1))).values["FD-EfficientNetLite0@64"] > 1


def test_every_distance_rises_with_the_noise(digits, judge_of, replay):
    judge = judge_of(digits, SMALL, num_real=120, num_images=120, metrics=EVERY_DISTANCE)
    images = digits.images(120)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    values = [judge(replay(images + strength * noise)).values for strength in (0, 0.05, 0.1, 0.2, 0.4)]
    for name in ("FD-EfficientNetLite0@64", "KD-EfficientNetLite0@64"):
        curve = [value[name] for value in values]
        assert curve == sorted(curve)
        assert curve[-1] > 2 * curve[1] > 0
    assert values[0]["precision-EfficientNetLite0@64"] > 0.5
    assert values[-1]["precision-EfficientNetLite0@64"] == 0


# Two Gaussians in the plane whose covariances do not commute; the factors are integers, so that 8 bits hold them.
MEANS = torch.tensor([[120.0, 130.0], [132.0, 125.0]]).double()
FACTORS = torch.tensor([[[20.0, 0.0], [10.0, 5.0]], [[6.0, 8.0], [0.0, 12.0]]]).double()


def frechet_distance_in_the_plane(means, covariances):
    first, second = covariances
    # The root of a 2x2 matrix M has the trace sqrt(tr M + 2 sqrt(det M)).
    root_trace = (torch.trace(first @ second) + 2 * torch.linalg.det(first @ second).sqrt()).sqrt()
    return ((means[0] - means[1]).square().sum() + torch.trace(first) + torch.trace(second) - 2 * root_trace).item()


def pixels(standard, which):
    """Images (n, 1, 1, 2) in [-1, 1], rounded to 8 bits, with that mean and covariance."""
    return ((MEANS[which] + standard @ FACTORS[which].T).round().view(-1, 1, 1, 2).float() - 127.5) / 127.5


def test_frechet_distance_of_exact_moments_has_its_closed_form(stub, judge_of, replay):
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double().repeat(25, 1)
    covariances = FACTORS @ FACTORS.mT * 100 / 99
    judge = judge_of(pixels(corners, 0), num_images=100)
    measured = judge(replay(pixels(corners, 1))).values[f"FD-{STUB}"]
    assert measured == pytest.approx(frechet_distance_in_the_plane(MEANS, covariances), rel=1e-9)


def test_frechet_distance_of_gaussians_has_its_closed_form(stub, judge_of, replay):
    n = 10_000
    draws = [torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)).double() for seed in (1, 2)]
    real, fake = (pixels(draw, which) for which, draw in enumerate(draws))
    measured = judge_of(real, num_images=n, batch_size=n)(replay(fake)).values[f"FD-{STUB}"]
    # Deviation of the estimate, to first order: of |m1 - m2|^2 by the means' deviations along m1 - m2, of each standard
    # deviation s by s / sqrt(2 n), where no axis of either is longer than 23.
    difference = (MEANS[0] - MEANS[1]).norm().item()
    tolerance = 4 * (2 * difference * math.sqrt(2 / n) * 23 + 2 * 2 * 23 * 23 / math.sqrt(2 * n))
    expected = frechet_distance_in_the_plane(MEANS, FACTORS @ FACTORS.mT)
    assert tolerance < 0.5 * expected
    assert measured == pytest.approx(expected, abs=tolerance)


def test_the_values_are_those_of_torch_fidelity_itself(digits, judge_of, replay):
    class Bytes(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = ((images + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    real, fake = digits.images(range(40)), digits.images(range(40, 80)).roll(3, -1)
    measured = judge_of(real, SMALL, num_images=40, metrics=EVERY_DISTANCE)(replay(fake)).values
    theirs = torch_fidelity.calculate_metrics(
        input1=Bytes(fake),
        input2=Bytes(real),
        feature_extractor="efficientnet-lite0",
        size=64,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=20,
        cuda=False,
        verbose=False,
        save_cpu_ram=True,
        cache=False,
    )
    expected = [theirs[name] for name in ("frechet_inception_distance", "kernel_inception_distance_mean")]
    expected += [theirs["precision"], theirs["recall"]]
    assert list(measured.values()) == pytest.approx(expected, rel=1e-4)
    assert 0 < theirs["precision"] < 1  # neither is trivially right, and they are not swapped
    assert theirs["precision"] != theirs["recall"]


# What a result says


def test_a_result_names_its_extractor_weights_counts_and_caveats(digits, judge_of, replay):
    judge = judge_of(digits, SMALL, num_real=30, num_images=20, metrics=EVERY_DISTANCE)
    quality = judge(replay(digits.images(20)))
    assert tuple(quality.values) == judge.names
    assert quality.extractor == SMALL
    assert re.fullmatch("57934424[0-9a-f]{56}", quality.weights_sha256)  # the file is named after its hash
    assert (quality.num_real, quality.num_fake) == (30, 20)
    assert len(quality.notes) == 3
    assert "grey images are repeated to RGB" in quality.notes[0]
    assert "20 images for 1280 features" in quality.notes[1]
    assert "subsets of 10 images" in quality.notes[2]


def test_nothing_but_inception_is_called_fid(stub, judge_of):
    real = random_images(16)
    names = judge_of(real, num_images=16, metrics=EVERY_DISTANCE).names
    names += judge_of(random_images(8, 1, 8, 8), SMALL, num_images=8, metrics=EVERY_DISTANCE).names
    assert {"FID", "KID", "IS", "precision", "recall"}.isdisjoint(names)
    assert all(name.endswith((f"-{STUB}", "-EfficientNetLite0@64")) for name in names)
    assert len(names) == 8


def test_enough_images_need_no_caveat(stub, judge_of):
    judge = judge_of(random_images(2000, 3, 2, 2), num_images=2000, metrics=EVERY_DISTANCE)
    assert judge.notes == ()


# What goes into the extractor


def test_every_grey_level_survives_and_is_repeated_to_rgb(stub, judge_of, replay):
    levels = torch.arange(256, dtype=torch.uint8).view(16, 1, 4, 4)
    images = (levels.float() - 127.5) / 127.5  # as a Dataset gives them
    judge_of(images, num_images=16)(replay(images))
    real, fake = stub.built[0].seen
    assert torch.equal(real, levels.expand(-1, 3, -1, -1))
    assert torch.equal(fake, real)


def test_values_are_rounded_to_the_nearest_level_and_clipped(stub, judge_of):
    levels = torch.tensor([-1e4, -0.4, 0.4, 0.6, 199.6, 254.6, 255.4, 1e4])
    judge_of(random_images(8), num_images=8)(lambda n: ((levels - 127.5) / 127.5).view(8, 1, 1, 1).repeat(1, 1, 4, 4))
    assert stub.built[0].seen[-1][:, 0, 0, 0].tolist() == [0, 0, 0, 1, 200, 255, 255, 255]


def test_generate_is_called_in_batches_until_there_are_enough(stub, judge_of):
    asked = []

    def generate(n):
        asked.append(n)
        return torch.zeros(n, 1, 4, 4)

    judge_of(random_images(8), num_images=10, batch_size=4)(generate)
    assert asked == [4, 4, 2]


def test_a_part_of_the_real_images_is_a_fixed_random_choice(stub, judge_of, digits):
    parts = [judge_of(digits, num_real=100)._real_indices for _ in range(2)]
    assert parts[0] == parts[1]
    assert len(set(parts[0])) == 100
    assert max(parts[0]) > 1500  # not the first hundred: sets are often sorted by class
    assert judge_of(digits, num_real=10**6).num_real == digits.num_images


def test_a_set_may_be_a_dataset_a_tensor_or_batches(stub, judge_of, digits, tmp_path):
    whole = digits.images(digits.num_images)
    for real in (digits, whole, whole.split(500)):
        assert judge_of(real).num_real == digits.num_images
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the same pixels: the same features


# What it leaves alone


def test_the_random_state_of_training_is_left_alone(judge_of, digits):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    judge = judge_of(digits, SMALL, num_real=16, num_images=16, metrics=EVERY_DISTANCE)
    judge(lambda n: torch.rand(n, 1, 32, 32))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()


def test_every_call_draws_the_same_latents(stub, judge_of):
    judge = judge_of(random_images(16))

    def generate(n):
        return torch.randn(n, 1, 4, 4)

    first = judge(generate)
    torch.randn(7)
    assert judge(generate) == first
    assert judge_of(random_images(16), seed=1)(generate) != first


def test_nothing_is_recorded_for_a_backward_pass(stub, judge_of):
    recording = []

    def generate(n):
        recording.append(torch.is_grad_enabled())
        return torch.zeros(n, 1, 4, 4)

    judge_of(random_images(16))(generate)
    assert recording == [False]
    assert torch.is_grad_enabled()


# What goes wrong


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_images_that_are_not_finite_give_no_values_and_say_so(stub, judge_of, bad):
    judge = judge_of(random_images(16), num_images=16, batch_size=8, metrics=EVERY_DISTANCE)
    batches = [torch.zeros(8, 1, 4, 4), torch.full((8, 1, 4, 4), bad)]
    quality = judge(lambda n: batches.pop(0))
    assert tuple(quality.values) == judge.names
    assert all(math.isnan(value) for value in quality.values.values())
    assert "images 8 to 15 are not all finite" in quality.notes[-1]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"metrics": ("fid",)}, "unknown metric 'fid'. Did you mean 'fd'"),
        ({"metrics": ()}, "metrics: none given; there is: fd, kd, precision_recall, isc"),
        ({"metrics": ("isc",)}, "'isc' needs the class scores of inception-v3-compat"),
        ({"num_images": 1}, "1 generated images are too few for the metric 'fd', which needs 2: raise num_images"),
        ({"num_real": 3, "metrics": ("kd",)}, "3 real images are too few for the metric 'kd', which needs 4"),
        ({"num_real": -3}, "0 real images are too few"),
        ({"batch_size": 0}, "batch size 0 of the judge"),
    ],
)
def test_bad_arguments_are_refused(stub, judge_of, kwargs, message):
    with pytest.raises(InputError, match=re.escape(message)):
        judge_of(random_images(16), **kwargs)


@pytest.mark.parametrize("metric", sorted(METRICS.keys() - {"isc"}))
def test_as_few_images_as_a_metric_needs_give_a_number(stub, judge_of, metric):
    fewest = METRICS[metric]
    judge = judge_of(random_images(fewest), num_images=fewest, metrics=(metric,))
    values = judge(lambda n: random_images(n, seed=1)).values
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("real", "message"),
    [
        ([], "one or more such tensors"),
        ([(torch.zeros(4, 1, 4, 4), torch.zeros(4))], "one or more such tensors"),
        (torch.zeros(4, 2, 4, 4), "channels must be 1 (grey) or 3 (RGB)"),
        (torch.zeros(4, 1, 4, 4, dtype=torch.uint8), "real images torch.uint8: expected finite floats in [-1, 1]"),
        (torch.full((4, 1, 4, 4), 2.0), "expected finite floats in [-1, 1]"),
        (torch.full((4, 1, 4, 4), math.nan), "expected finite floats in [-1, 1]"),
    ],
)
def test_bad_real_images_are_refused(stub, judge_of, real, message):
    with pytest.raises(InputError, match=re.escape(message)):
        judge_of(real)


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(15, 1, 4, 4),
        torch.zeros(16, 3, 4, 4),
        torch.zeros(16, 1, 8, 8),
        torch.zeros(16, 1, 4, 4, dtype=torch.uint8),
        None,
    ],
    ids=lambda bad: "none" if bad is None else f"{bad.dtype}-{tuple(bad.shape)}",
)
def test_bad_generated_images_are_refused(stub, judge_of, bad):
    judge = judge_of(random_images(16), num_images=16)
    with pytest.raises(InputError, match=re.escape("expected floats (16, 1, 4, 4) in [-1, 1]")):
        judge(lambda n: bad)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, images: images.float(), "features (16, F), one row an image; it returned (16, 3, 4, 4)"),
        (lambda self, images: torch.zeros(3, 5), "it returned (3, 5)"),
        (lambda self, images: "features", "it returned str"),
        (lambda self, images: torch.full((len(images), 5), math.nan), "its features of finite images are not finite"),
    ],
)
def test_bad_features_are_refused(stub, judge_of, forward, message):
    stub.Extractor = type("Bad", (stub.Extractor,), {"forward": forward})
    with pytest.raises(InputError, match=re.escape(f"extractor '{STUB}'")) as error:
        judge_of(random_images(16))
    assert message in str(error.value)


def test_a_users_extractor_must_be_a_module(stub, judge_of):
    stub.Extractor = lambda scale: nn.functional.relu
    with pytest.raises(InputError, match=r"must return an nn\.Module, it returned"):
        judge_of(random_images(16))
