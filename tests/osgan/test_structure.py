import pytest
import torch
from reference import (
    ASYMMETRIC,
    MIXING,
    SAMPLE_WISE,
    SYMMETRIC,
    changed,
    make_discriminator,
    make_labels,
    make_networks,
    make_real,
    snapshot,
    with_gradients,
)
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import osgan
from osgan import losses
from osgan.structure import Structure, measure_structure


def spectral(middle="none"):
    discriminator = make_discriminator(middle)
    for index in (0, 2, 5):
        spectral_norm(discriminator[index])
    return discriminator


@pytest.mark.parametrize("middle", SAMPLE_WISE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_sample_wise_discriminators(middle, dtype):
    structure = measure_structure(make_discriminator(middle).to(dtype), make_real(dtype))
    assert structure == Structure(logits_per_image=1, cross_sample=0.0)
    assert structure.sample_wise


@pytest.mark.parametrize("middle", MIXING)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_discriminators_that_mix_samples(middle, dtype):
    structure = measure_structure(make_discriminator(middle).to(dtype), make_real(dtype))
    assert structure.logits_per_image == 1
    assert structure.cross_sample > 1e-4
    assert not structure.sample_wise


def test_batch_norm_is_sample_wise_in_eval_mode():
    assert measure_structure(make_discriminator("batch").eval(), make_real(torch.float32)).sample_wise


def test_logits_per_image():
    real = make_real(torch.float32)
    assert measure_structure(make_discriminator(patch=True), real).logits_per_image == 4
    assert measure_structure(nn.Sequential(nn.Flatten(), nn.Linear(128, 7)), real).logits_per_image == 7


def test_a_conditional_discriminator_is_probed_with_its_labels():
    _, discriminator = make_networks(conditional=True)
    real = make_real(batch=2)  # fewer images than probes
    assert measure_structure(discriminator, real, (make_labels(2),)) == Structure(1, 0.0)


@pytest.mark.parametrize(
    "build", [spectral, lambda: make_discriminator("batch"), lambda: make_discriminator("whisper")]
)
@pytest.mark.parametrize("training", [True, False])
def test_the_probe_leaves_the_discriminator_and_the_random_state_alone(build, training):
    discriminator = build().train(training)
    with_gradients(discriminator)
    before = snapshot(discriminator)
    measure_structure(discriminator, make_real(torch.float32))
    before["rng"], after = before["rng"], snapshot(discriminator)
    after["rng"] = before["rng"]  # make_real draws; the state is looked at below
    assert changed(before, after) == []
    real = make_real(torch.float32)
    state = torch.get_rng_state()
    measure_structure(discriminator, real)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_would_move_what_the_probe_does_not():
    """The test above can fail: a forward pass moves spectral norm's vectors and BatchNorm's statistics."""
    for discriminator in (spectral(), make_discriminator("batch")):
        before = snapshot(discriminator)
        discriminator(torch.randn(4, 2, 8, 8))
        assert len(changed(before, snapshot(discriminator))) > 1


def test_spectral_norm_is_sample_wise_and_seen_through():
    assert measure_structure(spectral(), make_real(torch.float32)) == Structure(1, 0.0)
    assert not measure_structure(spectral("batch"), make_real(torch.float32)).sample_wise


class Returns(nn.Module):
    def __init__(self, pick):
        super().__init__()
        self.logits = nn.Sequential(nn.Flatten(), nn.Linear(128, 1))
        self.pick = pick

    def forward(self, x):
        return self.pick(self.logits(x))


@pytest.mark.parametrize(
    ("pick", "found"),
    [
        (lambda s: (s, s), "tuple"),
        (lambda s: {"logits": s}, "dict"),
        (lambda s: s.mean(), r"\(\)"),
        (lambda s: s[:2], r"\(2, 1\)"),
        (lambda s: None, "NoneType"),
    ],
)
def test_what_is_not_one_row_an_image_is_refused(pick, found):
    with pytest.raises(osgan.InputError, match=f"one tensor of logits with a row for each.*returned {found}"):
        measure_structure(Returns(pick), make_real(torch.float32))


@pytest.mark.parametrize("loss", SYMMETRIC)
def test_nothing_is_objected_to_a_symmetric_loss(loss):
    assert Structure(4, 1.0).objection(losses.LOSSES[loss]) is None


@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_objections_to_an_asymmetric_loss(loss):
    loss = losses.LOSSES[loss]
    assert Structure(1, 0.0).objection(loss) is None
    assert "mixes samples" in Structure(1, 0.3).objection(loss)
    assert "relative derivative 0.3" in Structure(1, 0.3).objection(loss)
    assert "4 logits per image" in Structure(4, 0.0).objection(loss)
    assert "mixes samples" in Structure(1, float("nan")).objection(loss)
