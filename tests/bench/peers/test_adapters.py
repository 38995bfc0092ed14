import os
import sys

import pytest
import torch
from torchvision.io import write_png

from bench.peers.arms import Feed, OurArm, TheirArm, device_batches
from bench.peers.check import compare, compare_loop
from bench.peers.peer import LoopCase, Ours
from bench.peers.runner import detect
from bench.peers.worker import PEERS
from bench.probes.timing import WallTimer, warm_up
from osgan import data
from osgan.errors import InputError

ASYMMETRIC = "train_dcgan_asymmetric_one_stage.py"


@pytest.mark.parametrize("key", PEERS)
def test_a_checkout_is_recognised_by_its_files(checkout, key):
    assert detect(checkout(key)).key == key


def test_an_unknown_folder_is_refused_with_what_is_recognised(tmp_path):
    with pytest.raises(InputError, match=r"OSGAN.*networks/dcgan\.py.*sngan_base\.py.*dcgan/main\.py"):
        detect(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        detect(tmp_path / "nowhere")


@pytest.mark.parametrize("key", PEERS)
def test_their_steps_take_the_gradients_of_ours(checkout, open_checkout, key):
    cases, _ = open_checkout(key, checkout(key))
    for case in cases:
        if isinstance(case, LoopCase):
            rows = compare_loop(case)
            assert [row["theirs"] for row in rows] == ["theirs", "autograd of their losses"] * 2
        else:
            rows = compare(case, torch.rand(4, *case.image_shape) * 2 - 1)
            assert {row["theirs"] for row in rows} == set(case.theirs)
        for row in rows:
            assert row["ours_finite"]
            assert row["theirs_finite"]
            assert row["generator_error"] < 1e-5
            assert row["discriminator_error"] < 1e-5


def test_a_wrong_step_of_theirs_is_seen(checkout, open_checkout, asymmetric):
    wrong = asymmetric.replace("p.grad = gradient", "p.grad = 2 * gradient")
    cases, _ = open_checkout("osgan", checkout("osgan", **{ASYMMETRIC: wrong}))
    row = compare(cases[0], torch.rand(4, 3, 64, 64))[0]
    assert row["generator_error"] == pytest.approx(0.5, rel=1e-4)
    assert row["discriminator_error"] < 1e-5


def test_a_division_by_zero_of_theirs_is_reported(checkout, open_checkout, asymmetric):
    divides = asymmetric.replace("p.grad = gradient", "p.grad = gradient / torch.sigmoid(scored).max() * 0.7")
    cases, _ = open_checkout("osgan", checkout("osgan", **{ASYMMETRIC: divides}))
    start, lowered = compare(cases[0], torch.rand(4, 3, 64, 64))[:2]
    assert (start["logits_lowered_by"], lowered["logits_lowered_by"]) == (0, 100)
    assert start["theirs_finite"]
    assert not lowered["theirs_finite"]
    assert lowered["ours_finite"]
    assert lowered["generator_error"] is None


def test_comparing_leaves_their_networks_as_they_were(checkout, open_checkout):
    (case,), _ = open_checkout("pytorch-dcgan", checkout("pytorch-dcgan"))
    (theirs,) = case.theirs.values()
    before = [t.clone() for t in theirs.discriminator.state_dict().values()]
    compare(case, torch.rand(4, 3, 64, 64))
    assert all(torch.equal(a, b) for a, b in zip(before, theirs.discriminator.state_dict().values(), strict=True))


def test_what_is_patched_is_said(checkout, open_checkout, monkeypatch):
    for package in ("ruamel", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)
    cases, changes = open_checkout("osgan", checkout("osgan"))
    said = "\n".join(changes.patched)
    assert "ruamel is not installed" in said
    assert "tensorboard is not installed" in said
    assert f"{ASYMMETRIC} imports never_used from utils.tools, which has no such name" in said
    assert "at .cuda()" in said
    assert "8 wide in place of 128" in said
    assert len(said.splitlines()) == len(set(said.splitlines()))
    assert [case.name for case in cases] == ["asymmetric", "symmetric", "wgan"]
    assert "theirs one_stage simple" not in cases[0].theirs  # that script is not in every checkout
    assert cases[0].theirs["theirs one_stage"].generator_optimizer.defaults["lr"] == 2e-4  # a number, not PyYAML's text
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "7"


def test_all_arms_start_from_the_same_weights(checkout, open_checkout):
    cases, _ = open_checkout("osgan", checkout("osgan"))
    case = cases[0]
    for theirs in case.theirs.values():
        for name, weight in case.generator.state_dict().items():
            assert torch.equal(weight, theirs.generator.state_dict()[name])


def test_packages_that_mimicrys_step_does_not_use_may_be_missing(checkout, open_checkout, monkeypatch):
    for package in ("skimage", "tensorflow", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)
    (case,), changes = open_checkout("mimicry", checkout("mimicry"), width=16)
    assert sum("is not installed: an empty module stands in" in line for line in changes.patched) == 3
    (theirs,) = case.theirs.values()
    assert theirs.generator.layers[0].out_features == 32  # as much narrower as D
    assert theirs.generator_optimizer.defaults["betas"] == (0.0, 0.9)


def test_the_examples_loop_runs_as_written_and_counts_on(checkout, open_checkout, capsys):
    (case,), _ = open_checkout("pytorch-dcgan", checkout("pytorch-dcgan"))
    (theirs,) = case.theirs.values()
    batches = iter([(torch.rand(4, 3, 64, 64), torch.zeros(4))] * 5)
    for steps in (2, 3):
        theirs.run(Feed(batches, steps, 4))
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["0", "1", "2", "3", "4"]
    assert next(batches, None) is None


def test_ours_on_the_example_is_what_can_be_exact_there(checkout, open_checkout):
    (case,), _ = open_checkout("pytorch-dcgan", checkout("pytorch-dcgan"))
    dataset = data.load("synthetic+images=8", resolution=64, channels=3, device="cpu")
    with pytest.raises(InputError, match="mixes samples"):
        OurArm(case, Ours("one_stage"), dataset)
    for ours in case.ours.values():
        times, _ = warm_up(OurArm(case, ours, dataset), WallTimer(), budget_s=0.01)
        assert len(times) >= 10


def test_their_arm_takes_so_many_steps_and_sees_weights_that_are_not_finite(checkout, open_checkout):
    cases, _ = open_checkout("osgan", checkout("osgan"))
    theirs = cases[0].theirs["theirs one_stage"]
    dataset = data.load("synthetic+images=8", resolution=64, channels=3, device="cpu")
    arm = TheirArm(theirs, 4, device_batches(dataset, 4))
    with arm.turn():
        arm.run(3)
    state = theirs.generator_optimizer.state_dict()["state"]
    assert {int(s["step"]) for s in state.values()} == {3}
    assert arm.finite
    with torch.no_grad():
        next(theirs.generator.parameters()).fill_(float("nan"))
    with arm.turn():
        arm.run(1)
    assert not arm.finite


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images" / "all"
    folder.mkdir(parents=True)
    for number in range(14):
        write_png(torch.full((3, 64, 64), number, dtype=torch.uint8), str(folder / f"{number}.png"))
    return folder.parent


def test_from_a_folder_their_own_loader_feeds_them(checkout, open_checkout, images):
    cases, _ = open_checkout("osgan", checkout("osgan"), folder=images)
    assert [case.name for case in cases][3:] == [
        f"{name}, from a folder" for name in ("asymmetric", "symmetric", "wgan")
    ]
    assert cases[3].targets == {"theirs one_stage": 3.0}
    assert cases[0].theirs["theirs one_stage"].loader is None
    theirs = cases[3].theirs["theirs one_stage"]
    assert len(theirs.loader.dataset) == 14
    arm = TheirArm(theirs, 4)
    for _ in range(2):  # each visit has a new epoch
        with arm.turn():
            arm.run(2)
            assert next(arm.feed)[0].shape == (4, 3, 64, 64)
        assert next(arm.feed, None) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [file.rename(folder / file.name) for file in folder.glob("*/*")], "sub-folder"),
        (lambda folder: write_png(torch.zeros(3, 32, 48, dtype=torch.uint8), str(folder / "all" / "0.png")), "48x32"),
        (lambda folder: (folder / "all" / "0.png").write_text("x"), "not an image"),
        (lambda folder: folder.rename(folder.with_name("moved")), "no such folder"),
    ],
)
def test_a_folder_that_their_loader_cannot_use_is_refused(checkout, open_checkout, images, spoil, message):
    spoil(images)
    with pytest.raises(InputError, match=message):
        open_checkout("osgan", checkout("osgan"), folder=images)
