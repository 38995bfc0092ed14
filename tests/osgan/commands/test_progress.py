"""`osgan train` and `osgan sample`, as their user meets them."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torchvision.utils
from PIL import Image
from rich.console import Console
from tensorboard.summary.writer.record_writer import RecordWriter

from osgan.commands import cli, progress
from osgan.commands import sample as sample_command
from osgan.errors import NonFiniteLossError
from osgan.training import checkpoint
from osgan.training.recipe import Recipe
from osgan.training.sampling import load_generator
from osgan.training.trainer import Trainer

TINY = {
    "--dataset": "digits",
    "--architecture": "dcgan32+resolution=16+width=4",
    "--batch-size": 8,
    "--images": 80,
    "--ema-half-life": 40,
    "--device": "cpu",
}


@pytest.fixture
def osgan(monkeypatch, capsys, tmp_path):
    """Run a command in this process and return its exit status, output and errors."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["osgan", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return run


@pytest.fixture
def train(osgan, tmp_path):
    def run(out="run", **options):
        asked = TINY | {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        return osgan("train", "--out", tmp_path / out, *(word for pair in asked.items() for word in pair))

    return run


def _weights(folder):
    return checkpoint.load_newest(folder).weights


def test_a_run_leaves_checkpoint_samples_and_scalars(train, tmp_path):
    status, out, _ = train(sample_every=40)
    run = tmp_path / "run"
    assert status == 0
    done, hint = out.splitlines()[-2:]
    assert done == f"{run}: 80 images in 10 steps"
    assert f"osgan sample {run}/checkpoint-000000010" in hint
    assert f"tensorboard --logdir {run}" in hint
    assert checkpoint.load_newest(run).facts["step"] == 10
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["0000000040.png", "0000000080.png"]
    with Image.open(run / "samples" / "0000000080.png") as grid:
        assert grid.size == (8 * 18 + 2, 8 * 18 + 2)  # 64 images of 16 pixels, 2 between them
    assert list((run / "tensorboard").iterdir())
    assert not (run / "quality.jsonl").exists()


def test_the_same_command_goes_on_to_the_same_end(train, tmp_path):
    assert train("whole")[0] == 0
    assert train("parts", images=40)[0] == 0
    status, out, _ = train("parts")
    assert status == 0
    assert out.splitlines()[0] == "going on from step 5 (40 images)"
    whole, parts = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_run_that_is_done_is_left_as_it_is(train, tmp_path):
    train()
    before = _weights(tmp_path / "run")
    status, out, _ = train()
    assert status == 0
    assert "going on from step 10" in out
    after = _weights(tmp_path / "run")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_changed_option_is_refused_and_the_run_is_kept(train, tmp_path):
    train(images=40)
    before = _weights(tmp_path / "run")
    status, _, errors = train(loss="hinge", generator_lr=1e-3)
    assert status == 2
    assert "loss was 'nonsaturating', is 'hinge'; generator_lr was 0.0002, is 0.001" in errors.replace("\n", " ")
    after = _weights(tmp_path / "run")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_run_that_is_stopped_at_once_says_what_there_is(train, tmp_path, monkeypatch):
    steps = Trainer.train

    def interrupted(trainer, count):
        if trainer.num_steps == 6:
            raise KeyboardInterrupt
        steps(trainer, count)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted)
        status, out, _ = train("early", checkpoint_every=80)
        assert status == 130
        assert "no checkpoint was written" in out
        status, out, _ = train(checkpoint_every=40)
    assert status == 130
    assert f"the same command goes on from {tmp_path / 'run' / 'checkpoint-000000005'}" in out
    assert checkpoint.load_newest(tmp_path / "run").facts["step"] == 5
    assert train()[0] == 0


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_after_the_step_at_hand(train, tmp_path, monkeypatch, kind, status):
    steps = Trainer.train

    def signalled(trainer, count):
        steps(trainer, count)
        if trainer.num_steps == 3:
            os.kill(os.getpid(), kind)

    train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", signalled)
        found, out, _ = train("parts")
    assert found == status
    assert "stopped at 24 images; the same command goes on from" in out
    assert "checkpoint-000000003" in out
    assert train("parts")[0] == 0
    whole, parts = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_signalled_saves_its_run(train, tmp_path, kind, status):
    run = tmp_path / "run"
    options = TINY | {"--images": 8_000_000, "--checkpoint-every": 80, "--keep": 1}
    command = [sys.executable, "-m", "osgan", "train", "--out", run, *(w for pair in options.items() for w in pair)]
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not checkpoint.all_of(run) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(kind)
        out, errors = (text.decode() for text in process.communicate())
    assert process.returncode == status
    assert "Traceback" not in errors
    (saved,) = checkpoint.all_of(run)
    assert saved.name in "".join(out.split("\n"))
    images = checkpoint.load(saved).facts["step"] * 8
    assert f"stopped at {images} images" in out


def test_a_run_that_is_stopped_while_it_is_judged_has_been_saved(train, tmp_path, monkeypatch):
    def signalled(trainer, n):
        os.kill(os.getpid(), signal.SIGINT)
        return trainer.sample(n)

    monkeypatch.setattr(Trainer, "generate", signalled)
    options = {"evaluate_every": 80, "evaluation_images": 128, "extractor": "efficientnet-lite0+size=64"}
    status, out, _ = train(**options)
    assert status == 130
    assert checkpoint.load_newest(tmp_path / "run").facts["step"] == 10
    assert "checkpoint-000000010" in out


def test_evaluations_after_the_checkpoint_are_made_again_and_stand_once(train, tmp_path):
    options = {"evaluate_every": 16, "evaluation_images": 8, "extractor": "efficientnet-lite0+size=64"}
    train(images=48, **options)
    file = tmp_path / "run" / "quality.jsonl"
    lines = file.read_text()
    file.write_text(lines + lines.splitlines()[-1].replace('"images": 48', '"images": 64') + "\ntorn {")
    train(**options)
    assert [json.loads(line)["images"] for line in file.read_text().splitlines()] == [16, 32, 48, 64, 80]


def test_the_note_on_few_images_stands_beside_the_value(train):
    _, out, _ = train(evaluate_every=80, evaluation_images=8, extractor="efficientnet-lite0+size=64")
    (line,) = [line for line in out.splitlines() if line.startswith("after 80 images: FD-")]
    assert "(8 images; " in line


@pytest.mark.parametrize("what", ["tensorboard", "samples"])
def test_a_file_where_a_folder_should_be(train, tmp_path, what):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / what).write_text("")
    status, _, errors = train()
    assert status == 2
    assert "cannot write to" in errors


def test_other_data_than_at_the_checkpoint_are_said(train, tmp_path):
    train(images=40, dataset="synthetic+images=64+channels=1")
    saved = sorted((tmp_path / "run").glob("checkpoint-*"))[-1] / "checkpoint.json"
    facts = json.loads(saved.read_text())
    facts["data"]["images"] = 32
    saved.write_text(json.dumps(facts))
    _, out, _ = train(dataset="synthetic+images=64+channels=1")
    assert "the data are others than at the checkpoint: 32 -> 64 images" in out


def test_what_is_due_is_due_at_the_step_that_reaches_it(train, tmp_path):
    train(images=88, checkpoint_every=30, sample_every=20, keep=10)
    run = tmp_path / "run"
    # batches of 8: 30, 60 are passed at 32, 64; the end is always kept
    assert [int(path.name[-9:]) for path in sorted(run.glob("checkpoint-*"))] == [4, 8, 11]
    assert [int(path.stem) for path in sorted((run / "samples").iterdir())] == [24, 40, 64, 80, 88]


def test_only_the_newest_checkpoints_are_kept(train, tmp_path):
    train(checkpoint_every=8, keep=2)
    assert [int(path.name[-9:]) for path in sorted((tmp_path / "run").glob("checkpoint-*"))] == [9, 10]


def test_evaluations_are_printed_and_kept(train, tmp_path):
    status, out, _ = train(evaluate_every=40, evaluation_images=8, extractor="efficientnet-lite0+size=64")
    assert status == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "quality.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [40, 80]
    for line in lines:
        assert line["extractor"].startswith("efficientnet-lite0")
        assert line["num_fake"] == 8
        assert all(math.isfinite(value) for value in line["values"].values())
        assert {name.split("-")[0] for name in line["values"]} == {"FD", "KD"}
    assert out.count("FD-EfficientNetLite0") == 2
    assert (tmp_path / "home" / ".cache" / "osgan" / "features").is_dir()


def test_evaluation_changes_nothing_of_the_training(train, tmp_path):
    train("quiet")
    train("judged", evaluate_every=40, evaluation_images=8, extractor="efficientnet-lite0+size=64", sample_every=8)
    quiet, judged = _weights(tmp_path / "quiet"), _weights(tmp_path / "judged")
    assert all(torch.equal(quiet[key], judged[key]) for key in quiet)


def test_a_loss_that_is_lost_ends_the_run_and_saves_nothing(tmp_path):
    architecture = "dcgan32+resolution=16+width=4"
    trainer = Trainer(
        Recipe(dataset="digits", architecture=architecture, loss="lsgan+r1=1e38", batch_size=8, images=80)
    )
    progress.open_run(tmp_path, trainer)
    with pytest.raises(NonFiniteLossError, match="at step"):
        progress.run(trainer, tmp_path, progress.Plan(checkpoint_every=8), Console(quiet=True))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_place_that_cannot_be_written_is_said(train, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, errors = train("file/run")
    assert status == 2
    assert "choose another --out" in errors


def test_a_full_disk_at_the_first_curve_is_one_sentence(train, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    status, _, errors = train()
    assert status == 2
    assert "cannot write to" in errors
    assert "Traceback" not in errors


def newest(folder):
    return sorted(folder.glob("checkpoint-*"))[-1]


@pytest.mark.parametrize("of", ["checkpoint", "run"])
def test_sample_writes_images_and_a_grid_beside_them(train, osgan, tmp_path, of):
    train()
    asked = newest(tmp_path / "run") if of == "checkpoint" else tmp_path / "run"
    images, grid = tmp_path / "images", tmp_path / "images-grid.png"
    for n in (9, 5):  # what an earlier call left there is replaced
        status, out, _ = osgan("sample", asked, "--out", images, "--n", n, "--device", "cpu")
        assert status == 0
        assert out.strip() == f"{n} images in {images}, a grid of the first in {grid}"
        assert sorted(p.name for p in images.iterdir()) == [f"{i:05d}.png" for i in range(n)]
    with Image.open(images / "00000.png") as image:
        assert image.size == (16, 16)
    assert grid.exists()
    assert not list(tmp_path.glob(".images*"))


def test_a_folder_with_other_files_is_not_sampled_into(train, osgan, tmp_path):
    train()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.jpg").write_text("mine")
    status, _, errors = osgan("sample", tmp_path / "run", "--out", tmp_path / "images", "--device", "cpu")
    assert status == 2
    assert "holds other files than samples, such as 'holiday.jpg'" in errors
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("out", [".", "/"])
def test_samples_want_a_folder_of_their_own(train, osgan, tmp_path, monkeypatch, out):
    train()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    status, _, errors = osgan("sample", tmp_path / "run", "--out", out, "--device", "cpu")
    assert status == 2
    assert "choose a folder of its own" in errors


def test_labels_go_round_across_batches_and_no_two_seeds_share_images(train, osgan, tmp_path, monkeypatch):
    train(architecture="cdcgan32+resolution=16+width=4")
    monkeypatch.setattr(sample_command, "BATCH_SIZE", 4)
    images = {}
    for seed in (0, 4):
        out = tmp_path / f"images{seed}"
        osgan("sample", tmp_path / "run", "--out", out, "--n", 8, "--seed", seed, "--device", "cpu")
        assert sorted(path.stem[-1] for path in out.iterdir()) == list("01234567")
        images[seed] = {path.read_bytes() for path in out.iterdir()}
    assert not images[0] & images[4]


def test_samples_of_a_class(train, osgan, tmp_path):
    train(architecture="cdcgan32+resolution=16+width=4")
    asked = "sample", tmp_path / "run", "--out", tmp_path / "images", "--device", "cpu"
    osgan(*asked, "--n", 12)
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    assert names[:2] == ["00000-class0.png", "00001-class1.png"]
    assert names[-1] == "00011-class1.png"
    osgan(*asked, "--n", 3, "--class", 7)
    assert {p.name[-10:] for p in (tmp_path / "images").iterdir()} == {"class7.png"}
    status, _, errors = osgan(*asked, "--class", 10)
    assert status == 2
    assert "class 10: there are 10, from 0 to 9" in errors


def test_a_class_of_a_network_without_any(train, osgan, tmp_path):
    train()
    status, _, errors = osgan("sample", tmp_path / "run", "--out", tmp_path / "i", "--class", 1, "--device", "cpu")
    assert status == 2
    assert "trained without labels" in errors


def test_nothing_is_left_where_the_disk_is_full(train, osgan, tmp_path, monkeypatch):
    train()
    write = torchvision.utils.save_image

    def full(image, path):
        if path.name == "00003.png":
            raise OSError(28, "No space left on device")
        write(image, path)

    monkeypatch.setattr(torchvision.utils, "save_image", full)
    status, _, errors = osgan("sample", tmp_path / "run", "--out", tmp_path / "images", "--device", "cpu")
    assert status == 2
    assert "No space left on device" in errors
    assert not list(tmp_path.glob("*images")) + list(tmp_path.glob(".images*"))


def test_samples_depend_on_the_seed_and_the_average_alone(train, osgan, tmp_path):
    train(generator_lr=1e-2)
    variants = {"first": [], "again": [], "seed": ["--seed", 1], "raw": ["--no-average"]}
    grids = {}
    for name, options in variants.items():
        asked = "sample", tmp_path / "run", "--out", tmp_path / name, "--n", 4, "--device", "cpu", *options
        assert osgan(*asked)[0] == 0
        grids[name] = (tmp_path / f"{name}-grid.png").read_bytes()
    assert grids["first"] == grids["again"]
    assert len({grids["first"], grids["seed"], grids["raw"]}) == 3


def test_more_images_than_a_batch_are_all_different(train, osgan, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_command, "BATCH_SIZE", 3)
    train()
    osgan("sample", tmp_path / "run", "--out", tmp_path / "images", "--n", 7, "--device", "cpu")
    images = [path.read_bytes() for path in sorted((tmp_path / "images").glob("0*.png"))]
    assert len(images) == len(set(images)) == 7


def test_a_sampled_generator_is_the_one_that_was_saved(train, tmp_path):
    train()
    saved = newest(tmp_path / "run")
    loaded = load_generator(saved)
    assert (loaded.step, loaded.recipe.batch_size) == (10, 8)
    average = {k.removeprefix("average."): v for k, v in _weights(tmp_path / "run").items() if k.startswith("average.")}
    state = loaded.networks.generator.state_dict()
    assert all(torch.equal(state[key], value) for key, value in average.items())


@pytest.mark.parametrize("what", ["nowhere", "empty"])
def test_what_is_no_checkpoint_is_refused(osgan, tmp_path, what):
    (tmp_path / "empty").mkdir()
    status, _, errors = osgan("sample", tmp_path / what, "--out", tmp_path / "images")
    assert status == 2
    assert errors.startswith("error: ")
    assert not (tmp_path / "images").exists()
