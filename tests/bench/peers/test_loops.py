"""Peers whose loops have several losses: arms of theirs and ours, and checkouts of other versions."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.peers.arms import LoopArm
from bench.peers.basicsr import gaussian_kernel
from bench.peers.check import compare_loop
from bench.peers.hifi_gan import mel_filters
from bench.peers.peer import LoopCase, OurSteps
from bench.peers.taming_transformers import permuted
from osgan.errors import InputError
from tests.bench.peers.checkouts import LOOPS

KEYS = list(LOOPS)
AFM = "train_adversarial_flow_imagenet.py"
AFM_CONFIG = "configs/train/afm/train_afm_1nfe.yaml"
AFM_NETWORKS = "configs/models/afm/dit/b2.yaml"
AFM_DIT = "models/afm/dit/dit.py"


def loops(cases):
    found = [case for case in cases if isinstance(case, LoopCase)]
    assert found
    return found


@pytest.mark.parametrize("key", KEYS)
def test_arms_start_from_the_same_weights_and_take_so_many_steps(checkout, open_checkout, key):
    cases, changes = open_checkout(key, checkout(key))
    assert changes.patched
    assert changes.remarks
    for case in loops(cases):
        arms = [LoopArm(case, steps) for steps in (case.theirs, *(ours.steps for ours in case.ours.values()))]
        for player in ("generator", "discriminator"):
            start, *others = ([*getattr(arm.players, player).parameters()] for arm in arms)
            assert all(torch.equal(a, b) for other in others for a, b in zip(start, other, strict=True))
            assert all(a is not b for other in others for a, b in zip(start, other, strict=True))
        for arm in arms:
            with arm.turn():
                arm.run(3)
            for optimizer in (arm.players.generator_optimizer, arm.players.discriminator_optimizer):
                assert {int(s["step"]) for s in optimizer.state_dict()["state"].values()} == {3}
            assert arm.finite


@pytest.mark.parametrize(("key", "averages"), [("basicsr", "averages"), ("studiogan", "ema.num")])
def test_ours_keeps_a_moving_average_where_they_do(checkout, open_checkout, key, averages):
    cases, _ = open_checkout(key, checkout(key))
    for case in cases:
        for steps in (case.theirs, case.ours["ours osgan.backward"].steps):
            arm = LoopArm(case, steps)
            arm.run(3)
            counted = arm.players.whole
            for name in averages.split("."):
                counted = getattr(counted, name)
            assert counted == 3


def test_weights_of_a_loop_that_are_not_finite_are_seen(checkout, open_checkout):
    (case,), _ = open_checkout("hifi-gan", checkout("hifi-gan"))
    arm = LoopArm(case, case.theirs)
    with torch.no_grad():
        next(arm.players.generator.parameters()).fill_(float("nan"))
    with arm.turn():
        arm.run(1)
    assert not arm.finite


def test_a_loop_of_theirs_that_leaves_its_losses_is_seen(checkout, open_checkout):
    wrong = LOOPS["hifi-gan"]["train.py"].replace("* 45", "* 90")
    (case,), _ = open_checkout("hifi-gan", checkout("hifi-gan", **{"train.py": wrong}))
    of_loop, of_losses, *_ = compare_loop(case)
    assert of_loop["generator_error"] > 0.1
    assert of_losses["generator_error"] < 1e-5
    assert of_loop["discriminator_error"] < 1e-5


@pytest.mark.parametrize(
    ("key", "file", "right", "wrong", "player"),
    [
        ("adversarial-flow", AFM, "loss + terms.gp_scale", "loss + 0.5 * terms.gp_scale", "discriminator"),
        ("adversarial-flow", AFM, "terms.cp_scale * (l", "-terms.cp_scale * (l", "discriminator"),
        ("adversarial-flow", AFM, "terms.ot_scale * away", "1.01 * terms.ot_scale * away", "generator"),
        ("adversarial-flow", "grad_norm.py", "1 - self.ema_decay", "self.ema_decay", "generator"),
        ("gat", "losses/Rp_loss.py", "gamma / 2", "gamma", "discriminator"),
        ("gat", "losses/Rp_loss.py", "aug_params=params)[0] for x in at", ")[0] for x in at", "discriminator"),
        ("gat", "losses/Rp_loss.py", "return loss, {}, {}", "return 1.01 * loss, {}, {}", "generator"),
    ],
)
def test_a_wrong_term_of_theirs_is_seen(checkout, open_checkout, key, file, right, wrong, player):
    assert right in LOOPS[key][file]
    (case,), _ = open_checkout(key, checkout(key, **{file: LOOPS[key][file].replace(right, wrong)}))
    (other,) = {"generator", "discriminator"} - {player}
    row = compare_loop(case)[0]
    assert row[f"{player}_error"] > 1e-6
    assert row[f"{other}_error"] < 1e-13


@pytest.mark.parametrize("key", KEYS)
def test_comparing_is_in_float64_though_their_code_asks_for_float_and_then_in_float32(checkout, open_checkout, key):
    cases, _ = open_checkout(key, checkout(key))
    for case in loops(cases):
        rows = compare_loop(case)
        assert [row["precision"] for row in rows] == ["float64", "float64", "float32", "float32"]
        for row, most in zip(rows, [1e-13, 1e-13, 1e-5, 1e-5], strict=True):
            assert row["generator_error"] < most
            assert row["discriminator_error"] < most
    assert torch.zeros(1).float().dtype == torch.get_default_dtype() == torch.float32


@pytest.fixture
def tensorfloat_32():
    """Let a GPU multiply in TensorFloat-32, and give the setting."""
    setting = torch.backends.cuda.matmul
    before, setting.allow_tf32 = setting.allow_tf32, True
    yield setting
    setting.allow_tf32 = before


def test_float32_is_compared_without_tensorfloat_32(checkout, open_checkout, tensorfloat_32):
    (case,), _ = open_checkout("gat", checkout("gat"))
    seen = []
    steps = case.ours["ours osgan.backward"].steps

    def looks(players, batches):
        seen.append(tensorfloat_32.allow_tf32)
        steps(players, batches)

    compare_loop(replace(case, ours={"ours": OurSteps(looks, "")}))
    assert seen == [True, False]
    assert tensorfloat_32.allow_tf32


@pytest.mark.parametrize(
    ("key", "packages"),
    [
        ("hifi-gan", ["librosa", "tensorboard"]),
        ("basicsr", ["cv2"]),
        ("taming-transformers", ["einops"]),
        ("r3gan", ["psutil", "pkg_resources"]),
        ("studiogan", ["wandb"]),
        ("adversarial-flow", ["kornia", "omegaconf", "timm", "tqdm"]),
        ("gat", ["accelerate", "diffusers", "einops", "timm", "tqdm", "wandb"]),
    ],
)
def test_packages_that_their_steps_do_not_need_may_be_missing(checkout, open_checkout, monkeypatch, key, packages):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    _, changes = open_checkout(key, checkout(key))
    for package in packages:
        assert sum(line.startswith(f"{package} is not installed: ") for line in changes.patched) == 1


@pytest.mark.parametrize(
    ("key", "file", "old", "new", "message"),
    [
        ("hifi-gan", "train.py", "enumerate(train_loader)", "enumerate(batches)", "no loop over `train_loader`"),
        ("hifi-gan", "train.py", "def train(", "def fit(", "train.py has no 'train'"),
        ("hifi-gan", "models.py", "def feature_loss", "def features", "cannot be imported.*feature_loss"),
        ("hifi-gan", "config_v3.json", '"n_fft": 256, ', "", "config_v3.json lacks n_fft"),
        ("hifi-gan", "config_v3.json", "}", "", "config_v3.json is not JSON"),
        ("basicsr", "basicsr/models/esrgan_model.py", "class ESRGANModel", "class Other", "has no 'ESRGANModel'"),
        ("basicsr", "options/train/ESRGAN/train_ESRGAN_x4.yml", "network_d:", "network_x:", "lacks network_d"),
        ("basicsr", "options/train/ESRGAN/train_ESRGAN_x4.yml", "network_d: {", "network_d: [", "is not YAML"),
        ("taming-transformers", "taming/models/vqgan.py", "class VQModel", "class Model", "has no 'VQModel'"),
        ("taming-transformers", "taming/models/vqgan.py", "import torch\n", "import gone\n", "pip install gone"),
        ("taming-transformers", "configs/imagenet_vqgan.yaml", "lossconfig", "losses", "has no model.params with"),
        ("r3gan", "training/training_loop.py", "    while True:", "    for _ in range(9):", "has no while loop"),
        ("r3gan", "training/loss.py", "class R3GANLoss", "class Loss", "loss.py has no 'R3GANLoss'"),
        ("studiogan", "src/worker.py", "class WORKER", "class Worker", "worker.py has no 'WORKER'"),
        ("studiogan", "src/worker.py", "import wandb", "import gone", "pip install gone"),
        ("adversarial-flow", AFM, "class AdversarialFlowTrainer", "class Trainer", "has no 'AdversarialFlowTrainer'"),
        ("adversarial-flow", AFM, "import torch\n", "import gone\n", "pip install gone"),
        ("adversarial-flow", AFM_DIT, "import torch\n", "raise NotImplementedError\n", "a placeholder: put models.py"),
        ("adversarial-flow", AFM_CONFIG, "pred: x", "pred: v", "was written for exp.pred x"),
        ("adversarial-flow", AFM_CONFIG, "cp_scale", "centre", "lacks a setting .*'cp_scale'"),
        ("adversarial-flow", AFM_CONFIG, "exp: {", "exp: [", "is not YAML"),
        ("adversarial-flow", AFM_NETWORKS, "depth", "blocks", "lacks depth"),
        ("gat", "train.py", "in train_dataloader", "in batches", "no loop over `train_dataloader`"),
        ("gat", "train.py", "def main(", "def run(", "train.py has no 'main'"),
        ("gat", "train.py", "def update_ema", "def average", "train.py has no 'update_ema'"),
        ("gat", "losses/Rp_loss.py", "class RpGANLoss", "class Loss", "cannot be imported.*RpGANLoss"),
        ("gat", "losses/Rp_loss.py", "DiffAugment as aug", "DiffAugment", "Rp_loss.py has no 'aug'"),
    ],
)
def test_a_checkout_of_another_version_is_named_with_what_was_looked_for(
    checkout, open_checkout, key, file, old, new, message
):
    assert old in LOOPS[key][file]
    root = checkout(key, **{file: LOOPS[key][file].replace(old, new)})
    with pytest.raises(InputError, match=message) as error:
        open_checkout(key, root)
    assert str(root) in str(error.value)


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("basicsr", "options/train/ESRGAN/train_ESRGAN_x4.yml"),
        ("hifi-gan", "train.py"),
        ("studiogan", "src/worker.py"),
        ("adversarial-flow", AFM_NETWORKS),
        ("gat", "train.py"),
    ],
)
def test_a_checkout_without_a_file_is_named(checkout, open_checkout, key, file):
    with pytest.raises(InputError, match=file.rpartition("/")[2].partition(".")[0]):
        open_checkout(key, checkout(key, **{file: None}))


def test_mel_filters_have_unit_area_and_rising_centres():
    filters = mel_filters(22050, 1024, 80, 0, 8000)
    assert filters.shape == (80, 513)
    bin_hz = 22050 / 1024
    assert np.allclose(filters[40:].sum(1) * bin_hz, 1, atol=0.02)  # wide enough for the bins to see the area
    centres = filters.argmax(1) * bin_hz
    assert (np.diff(centres) >= 0).all()
    assert 7500 < centres[-1] < 8000
    assert np.allclose(centres[20], 8000 / 3 * 0.1 * 2, atol=250)


def test_a_gaussian_kernel_sums_to_1_and_goes_with_its_size():
    kernel = gaussian_kernel(51, 0)
    assert kernel.shape == (51, 1)
    assert kernel.sum() == pytest.approx(1)
    assert np.allclose(kernel, kernel[::-1])
    assert kernel[25] / kernel[33] == pytest.approx(np.exp(64 / (2 * 8.0**2)))  # sigma 8.0 of 51


def test_axes_are_permuted_as_the_words_say():
    assert permuted(torch.zeros(1, 2, 3, 4), "b c h w -> b h w c").shape == (1, 3, 4, 2)
