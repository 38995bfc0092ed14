"""Damaged checkpoints, tied weights, the moving average's first images, and what a run must not lose."""

import json
import shutil

import pytest
import torch
from reference import make_discriminator
from safetensors.torch import load_file, save_file
from torch import nn

import osgan
from osgan.errors import InputError
from osgan.training import checkpoint, sampling
from osgan.training.average import MovingAverage
from osgan.training.checkpoint import DamagedCheckpointWarning
from osgan.training.optim import OptimisticAdam
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer

TINY = {"dataset": "digits", "architecture": "dcgan32+resolution=16+width=4", "batch_size": 8, "images": 80}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with two checkpoints of a run."""
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(Recipe(**TINY))
    for _ in range(2):
        trainer.train(2)
        trainer.save(folder)
    return folder


@pytest.fixture
def run(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def rewritten(path, **changes):
    facts = json.loads((path / "checkpoint.json").read_text()) | changes
    (path / "checkpoint.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not ...}))


def with_sha(path, name, content):
    """Put another content in a file's place, under a right SHA-256."""
    (path / name).write_bytes(content) if isinstance(content, bytes) else save_file(content, path / name)
    facts = json.loads((path / "checkpoint.json").read_text())
    rewritten(path, sha256=facts["sha256"] | {name: checkpoint._sha256(path / name)})


def json_of(content):
    return lambda path: (path / "checkpoint.json").write_bytes(content)


def changed(key, value):
    return lambda path: rewritten(path, **{key: value})


def weights(change):
    def damage(path):
        tensors = load_file(path / "weights.safetensors")
        key = next(key for key, t in tensors.items() if t.is_floating_point() and t.ndim > 1)
        with_sha(path, "weights.safetensors", tensors | {key: change(tensors[key])})

    return damage


def a_folder(path):
    (path / "state.safetensors").unlink()
    (path / "state.safetensors").mkdir()


DAMAGES = {
    "null": json_of(b"null"),
    "list": json_of(b"[]"),
    "number": json_of(b"3"),
    "empty": json_of(b""),
    "not UTF-8": json_of(b"\xff\xfe{"),
    "deep": json_of(b"[" * 100_000),
    "no sha": changed("sha256", ...),
    "sha is a list": changed("sha256", [1]),
    "one sha": changed("sha256", {"state.safetensors": "0"}),
    "no recipe": changed("recipe", ...),
    "recipe is null": changed("recipe", None),
    "no step": changed("step", ...),
    "step is text": changed("step", "4"),
    "step below 0": changed("step", -1),
    "step beyond every run": changed("step", 10**30),
    "no place in the data": changed("batches_drawn", ...),
    "channels is a float": changed("channels", 1.5),
    "no file": lambda path: (path / "weights.safetensors").unlink(),
    "a folder for a file": a_folder,
    "torn": lambda path: (path / "state.safetensors").write_bytes(b"x"),
    "rubbish under a right SHA": lambda path: with_sha(path, "state.safetensors", b"rubbish"),
    "NaN": weights(lambda t: t * float("nan")),
    "infinite": weights(lambda t: t / 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run, damage):
    DAMAGES[damage](run / "checkpoint-000000004")
    with pytest.raises(InputError):
        checkpoint.load(run / "checkpoint-000000004")
    with pytest.warns(DamagedCheckpointWarning, match="checkpoint-000000004.* the checkpoint before it is used"):
        assert checkpoint.load_newest(run).facts["step"] == 2


@pytest.mark.parametrize("newer", ["checkpoint-000000009", "checkpoint-best"])
def test_what_cannot_be_read_takes_no_place_of_what_is_kept(run, newer):
    (run / newer).mkdir()
    saved = checkpoint.load(run / "checkpoint-000000004")
    written = checkpoint.save(run, 5, saved, keep=1)
    assert sorted(path.name for path in run.glob("checkpoint-*")) == sorted([written.name, newer])


def test_a_run_is_read_from_its_newest_checkpoint_that_is_whole(run):
    DAMAGES["torn"](run / "checkpoint-000000004")
    with pytest.warns(DamagedCheckpointWarning):
        assert checkpoint.load_from(run).facts["step"] == 2


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_refused(run, dtype):
    weights(lambda t: t.to(dtype))(run / "checkpoint-000000004")
    with pytest.raises(InputError, match=f"is {dtype}, expected torch.float32"):
        Trainer(Recipe(**TINY)).resume(checkpoint.load_newest(run))


@pytest.mark.parametrize("state", [None, torch.zeros(3, dtype=torch.uint8), torch.zeros(5056)])
def test_a_random_state_that_is_none_is_refused(run, state):
    path = run / "checkpoint-000000004"
    tensors = {k: t for k, t in load_file(path / "state.safetensors").items() if k != "random.cpu"}
    with_sha(path, "state.safetensors", tensors | ({} if state is None else {"random.cpu": state}))
    trainer = Trainer(Recipe(**TINY))
    before = [t.clone() for t in trainer.loop.state()]
    with pytest.raises(InputError, match=r"random.cpu is no state of a random generator"):
        trainer.resume(checkpoint.load_newest(run))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.loop.state(), strict=True))


@pytest.mark.parametrize(
    "recipe", [{"dataset": "digits"}, {"dataset": "digits", "architecture": "mlp", "betas": [2, 0.9]}]
)
def test_a_recipe_that_is_none_is_refused(run, recipe):
    rewritten(run / "checkpoint-000000004", recipe=recipe)
    with pytest.raises(InputError):
        sampling.load_generator(run)


class Tied(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.first, self.last = nn.Linear(sizes[0], 8), nn.Linear(8, sizes[1])
        self.head = self.embed = nn.Linear(8, 8)

    def forward(self, x):
        return self.last(torch.tanh(self.head(torch.tanh(self.first(x.flatten(1))))))


def build_tied(resolution=16, channels=1):
    return (
        nn.Sequential(Tied(4, channels * resolution**2), nn.Unflatten(1, (channels, resolution, resolution))),
        Tied(channels * resolution**2, 1),
        osgan.Gaussian(4),
    )


def test_tied_weights_are_saved_and_go_on(tmp_path):
    recipe = Recipe(**TINY | {"architecture": "tests.osgan.training.test_checkpoint_damage:build_tied+resolution=16"})
    whole = Trainer(recipe)
    whole.train(6)
    first = Trainer(recipe)
    first.train(3)
    first.save(tmp_path)
    second = Trainer(recipe)
    second.resume(checkpoint.load_newest(tmp_path))
    second.train(3)
    for mine, its in zip(second.loop.state(), whole.loop.state(), strict=True):
        assert torch.equal(mine, its)
    assert second.networks.discriminator.head is second.networks.discriminator.embed


def test_after_few_images_the_average_is_not_what_training_began_with():
    generator = make_discriminator()
    start = [p.detach().clone() for p in generator.parameters()]
    average = MovingAverage(generator, half_life=10_000, images_per_step=50)
    for _ in range(40):  # 2,000 images: without a warm-up 87 % of the first weights are left
        with torch.no_grad():
            for p in generator.parameters():
                p.add_(1.0)
        average.update()
    for mine, first in zip(average.generator.parameters(), start, strict=True):
        left = 1 - (mine - first).mean() / 40
        assert left < 0.1


def test_the_average_survives_old_weight_norm_after_a_forward_pass():
    with pytest.warns(FutureWarning):
        generator = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)))
    generator(torch.ones(2, 4))
    MovingAverage(generator, 100, 8).update()


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_the_average_lies_in_memory_as_the_weights_do(layout):
    trainer = Trainer(Recipe(**TINY, engine=f"eager+memory_format={layout}"))
    weights, averages = (list(n.parameters()) for n in (trainer.networks.generator, trainer.average.generator))
    assert [w.stride() for w in weights] == [a.stride() for a in averages]
    convolution = next(w for w in weights if w.ndim == 4 and w.shape[2] > 1)
    assert convolution.is_contiguous(memory_format=torch.channels_last) is (layout == "channels_last")


def test_judged_labels_are_as_often_as_the_data_have_them(tmp_path):
    dataset = osgan.data.load("digits", resolution=8, device="cpu")
    dataset._drawn_from = torch.tensor([3] * 9 + [7])
    torch.manual_seed(0)
    drawn = dataset.random_labels(2000)
    assert set(drawn.tolist()) == {3, 7}
    assert 0.87 < (drawn == 3).float().mean() < 0.93


def test_losses_that_nobody_asks_for_take_no_more_memory(monkeypatch):
    from osgan.training import trainer

    monkeypatch.setattr(trainer, "BLOCK", 4)
    monkeypatch.setattr(trainer, "LOSSES_KEPT", 8)
    trainer = Trainer(Recipe(**TINY))
    trainer.train(23)
    assert len(trainer._pending) < 4
    assert len(trainer._blocks) <= 3
    assert len(trainer.losses()) == 7  # the last whole block, and what came after it
    trainer.train(2)
    assert len(trainer.losses()) == 2


def test_every_module_gets_its_own_mode_back():
    trainer = Trainer(Recipe(**TINY))
    layer = next(m for m in trainer.networks.generator.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    trainer.sample(4, average=False)
    assert not layer.training
    assert trainer.networks.generator.training


def test_hooks_of_an_optimistic_optimizer_run_once():
    torch.optim.Adam([nn.Parameter(torch.ones(1))]).zero_grad()  # hooks Adam's own step, once in a process
    weight = nn.Parameter(torch.ones(2))
    optimizer = OptimisticAdam([weight], 1e-2)
    seen = []
    optimizer.register_step_pre_hook(lambda *given: seen.append("before"))
    optimizer.register_step_post_hook(lambda *given: seen.append("after"))
    weight.grad = torch.ones(2)
    optimizer.step()
    assert seen == ["before", "after"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"betas": (2, 0.9)}, "betas must be from 0 up to 1"),
        ({"betas": (float("nan"), 0.9)}, "betas"),
        ({"betas": (-1, 0.9)}, "betas"),
        ({"seed": 2**70}, "seed must be a whole number of 64 bits"),
        ({"seed": 10**5000}, "seed must be .* a number of thousands of digits"),
        ({"images": 10**5000}, "images must be .* a number of thousands of digits"),
        ({"betas": 10**5000}, "betas must be two numbers, got a number of thousands of digits"),
        ({"generator_lr": 10**400}, "generator_lr must be above 0"),
        ({"images": 10**400}, "images must be a whole number"),
        ({"images": 2.5}, "images must be a whole number"),
        ({"generator_lr": float("inf")}, "generator_lr must be above 0"),
        ({"discriminator_lr": float("nan")}, "discriminator_lr must be above 0"),
        ({"schedule": "multistep+at=('a',)"}, "takes shares of the run"),
        ({"schedule": "multistep+at=0.5"}, "takes shares of the run"),
        ({"schedule": "multistep+at=(0.5,)+gamma=a"}, "gamma must be above 0"),
        ({"schedule": "linear+optimizer=1"}, "optimizer follows from the run"),
        ({"schedule": "cosine+num_steps=0"}, "num_steps follows from the run"),
    ],
)
def test_values_of_a_recipe_that_are_none(values, message):
    with pytest.raises(InputError, match=message):
        Recipe(**TINY | values)
