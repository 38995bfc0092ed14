import json

import pytest
import torch

from osgan.building import SCHEMES
from osgan.errors import InputError, NonFiniteLossError
from osgan.training import checkpoint
from osgan.training.checkpoint import DamagedCheckpointWarning
from osgan.training.recipe import Recipe
from osgan.training.sampling import load_generator, sample
from osgan.training.schedule import Schedule
from osgan.training.trainer import Trainer

TINY = {"dataset": "digits", "architecture": "dcgan32+resolution=16+width=8", "batch_size": 8, "images": 8 * 40}


def make(**options):
    return Trainer(Recipe(**TINY | options))


def state(trainer):
    return [t.clone() for t in trainer.loop.state()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "optimistic_adam"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_stopping_and_going_on_changes_not_one_bit(scheme, optimizer, tmp_path):
    options = {"scheme": scheme, "optimizer": optimizer, "loss": "nonsaturating+r1=1", "schedule": "cosine"}
    whole = make(**options)
    whole.train(10)
    first = make(**options)
    first.train(5)
    first.save(tmp_path)
    second = make(**options)
    torch.manual_seed(99)  # chance must come from the checkpoint
    second.resume(checkpoint.load_newest(tmp_path))
    assert (second.num_steps, second.images_seen) == (5, 40)
    second.train(5)
    assert same(state(second), state(whole))
    assert second.losses() == whole.losses()[5:]
    assert torch.equal(second.sample(4), whole.sample(4))


MODERN = {
    "loss": "rpgan+ar1=0.5+ar2=0.5/2+share=0.5+r1=0.1/3",
    "augmentation": "ada+images=200+interval=2",
    "generator_clip": 1.0,
    "discriminator_clip": 1.0,
    "accumulate": 2,
    "gradient_normalization": 0.9,
    "penalty_schedule": "cosine+to=0.1+warmup=0.2",
    "schedule": "linear+to=0.5+warmup=0.1",
    "betas": (0.0, 0.99),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_that_a_step_keeps_goes_on_bit_for_bit(scheme, tmp_path):
    options = MODERN | {"accumulate": 1 if scheme == "one_stage_staggered" else 2}  # has parts of its own
    whole = make(scheme=scheme, **options)
    before = state(whole)
    whole.loop.rehearse(3)
    assert same(before, state(whole)), "what a rehearsal moved is put back"
    whole.train(10)
    first = make(scheme=scheme, **options)
    first.train(5)
    first.save(tmp_path)
    second = make(scheme=scheme, **options)
    torch.manual_seed(99)
    second.resume(checkpoint.load_newest(tmp_path))
    second.train(5)
    assert same(state(second), state(whole))
    kept = whole.loop.scheme.tensors()
    assert len(kept) >= 2
    assert any(t.any() for t in kept)
    assert len({float(r.scale) for r in second.loop.scheme.regularizers}) == 1
    load_generator(tmp_path)


def test_a_schedule_of_penalties_reaches_them_and_a_graph_would_read_it():
    trainer = make(loss="rpgan+r1=1+ar2=1", penalty_schedule="linear+to=0.5", images=8 * 4)
    scales = [r.scale for r in trainer.loop.scheme.regularizers]
    assert [float(s) for s in scales] == [1, 1]
    trainer.train(2)
    assert [float(s) for s in scales] == [0.75, 0.75], "in place"
    plain = make(loss="rpgan+r1=1")
    plain.train(1)
    assert plain.loop.scheme.regularizers[0].scale == 1.0


def test_a_checkpoint_of_before_these_options_goes_on(tmp_path):
    trainer = make()
    trainer.train(3)
    trainer.save(tmp_path)
    saved = checkpoint.load_newest(tmp_path)
    new = ("augmentation", "accumulate", "generator_clip", "discriminator_clip", "gradient_normalization")
    for key in (*new, "penalty_schedule"):
        del saved.facts["recipe"][key]
    other = make()
    other.resume(saved)
    assert other.num_steps == 3


def test_saving_and_sampling_do_not_disturb_a_run(tmp_path):
    quiet = make()
    quiet.train(4)
    busy = make()
    for _ in range(4):
        busy.train(1)
        busy.sample(5)
        busy.save(tmp_path, keep=2)
        busy.losses()
    assert same(state(quiet), state(busy))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint-000000003", "checkpoint-000000004"]


def test_data_go_on_across_the_end_of_an_epoch(tmp_path):
    options = {"batch_size": 1000}  # of 1,797 images: an epoch is one batch
    whole, part, rest = make(**options), make(**options), make(**options)
    part.train(2)
    part.save(tmp_path)
    rest.resume(checkpoint.load_newest(tmp_path))
    for _ in range(2):
        whole.loop.draw()
    assert torch.equal(rest.loop.draw()[0], whole.loop.draw()[0])


def test_another_recipe_is_refused_with_what_differs(tmp_path):
    first = make()
    first.train(1)
    first.save(tmp_path)
    other = make(generator_lr=1e-3, loss="hinge")
    before = state(other)
    with pytest.raises(InputError, match=r"loss was 'nonsaturating', is 'hinge'; generator_lr was 0\.0002, is 0\.001"):
        other.resume(checkpoint.load_newest(tmp_path))
    assert same(state(other), before)


def test_a_run_can_be_made_longer_unless_its_schedule_depends_on_the_length(tmp_path):
    for schedule, accepted in (("constant", True), ("linear", False)):
        first = make(schedule=schedule)
        first.train(1)
        first.save(tmp_path / schedule)
        longer = make(schedule=schedule, images=8 * 80)
        saved = checkpoint.load_newest(tmp_path / schedule)
        if accepted:
            longer.resume(saved)
        else:
            with pytest.raises(InputError, match="images was 320, is 640"):
                longer.resume(saved)


def test_a_damaged_checkpoint_falls_back_on_the_one_before(tmp_path):
    trainer = make()
    for _ in range(3):
        trainer.train(1)
        trainer.save(tmp_path)
    newest = tmp_path / "checkpoint-000000003"
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "checkpoint-000000002" / "checkpoint.json").write_text("{")
    with pytest.warns(DamagedCheckpointWarning) as warned:
        saved = checkpoint.load_newest(tmp_path)
    assert saved.facts["step"] == 1
    assert [("000000003" in str(w.message), "SHA-256" in str(w.message)) for w in warned] == [
        (True, True),
        (False, False),
    ]
    (tmp_path / "checkpoint-000000001" / "state.safetensors").unlink()
    with pytest.warns(DamagedCheckpointWarning), pytest.raises(InputError, match="none of the 3 checkpoints"):
        checkpoint.load_newest(tmp_path)


def test_no_checkpoint_is_no_error_and_a_newer_format_is(tmp_path):
    assert checkpoint.load_newest(tmp_path) is None
    trainer = make()
    path = trainer.save(tmp_path)
    facts = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(InputError, match="has format 99; this version of osgan reads format 1"):
        checkpoint.load(path)
    with pytest.raises(InputError, match=r"is not a checkpoint: checkpoint\.json is missing"):
        checkpoint.load(tmp_path / "nowhere")


def test_a_checkpoint_that_cannot_be_written_leaves_the_others(tmp_path, monkeypatch):
    trainer = make()
    trainer.train(1)
    trainer.save(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    trainer.train(1)
    with pytest.raises(InputError, match="No space left on device"):
        trainer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001"]


def test_the_moving_average_is_the_mean_it_says():
    trainer = make(ema_half_life=16)  # two batches of 8
    weight = next(trainer.networks.generator.parameters())
    expected = weight.detach().clone()
    for step in range(1, 80):
        trainer.train(1)
        kept = 0.5 ** (8 / min(16, 0.05 * 8 * step))  # the half-life grows with what was seen, up to the one asked for
        expected = expected * kept + weight.detach() * (1 - kept)
    assert kept == 0.5 ** (8 / 16)
    average = next(trainer.average.generator.parameters())
    torch.testing.assert_close(average.detach(), expected)
    assert not torch.equal(average, weight)
    assert make(ema_half_life=0).average is None
    pairs = zip(trainer.average.generator.buffers(), trainer.networks.generator.buffers(), strict=True)
    assert all(torch.equal(mine, its) for mine, its in pairs)


def test_images_come_from_the_average_or_from_g_itself():
    trainer = make(ema_half_life=1000)
    trainer.train(3)
    averaged, raw = trainer.sample(4), trainer.sample(4, average=False)
    assert averaged.shape == (4, 1, 16, 16)
    assert not torch.equal(averaged, raw)
    assert trainer.networks.generator.training
    assert torch.equal(averaged, trainer.sample(4))
    assert not torch.equal(averaged, trainer.sample(4, seed=1))


def test_a_generator_comes_back_from_its_checkpoint(tmp_path):
    trainer = make()
    trainer.train(2)
    path = trainer.save(tmp_path)
    for average in (True, False):
        loaded = load_generator(path, average=average)
        images = sample(loaded.networks, 4, seed=0, device="cpu")
        # the run's networks lie in memory as its engine has them, and sums round accordingly
        torch.testing.assert_close(images, trainer.sample(4, average=average), rtol=1e-4, atol=1e-6)
    assert (loaded.step, loaded.recipe) == (2, trainer.recipe)


def test_the_first_loss_that_is_not_finite_is_named(tmp_path):
    trainer = make(loss="wgan", generator_lr=1e18, discriminator_lr=1e18)
    trainer.train(8)
    with pytest.raises(NonFiniteLossError, match=r"_loss of wgan is (nan|inf|-inf) at step \d"):
        trainer.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "factors"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, 0.853553, 0.5, 0.146447, 0]),
        ("multistep+at=(0.5,0.75)+gamma=0.1", [1, 1, 0.1, 0.01, 0.01]),
        ("linear+to=0.6", [1, 0.9, 0.8, 0.7, 0.6]),
        ("cosine+to=0.5", [1, 0.926777, 0.75, 0.573223, 0.5]),
        ("constant+warmup=0.5", [1 / 3, 2 / 3, 1, 1, 1]),
        ("linear+warmup=0.5", [1 / 3, 2 / 3, 1, 0.5, 0]),
    ],
)
def test_schedules(text, factors):
    schedule = Schedule(text, num_steps=4)
    found = []
    for _ in factors:
        found.append(schedule.factor)
        schedule.advance()
    assert found == pytest.approx(factors, abs=1e-6)


def test_a_schedule_reaches_both_optimizers():
    trainer = make(schedule="linear", images=8 * 4, generator_lr=1e-3)
    trainer.train(1)
    assert [o.param_groups[0]["lr"] for o in trainer.loop.optimizers] == pytest.approx([0.75e-3, 1.5e-4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"images": -1}, "images must be a whole number from 1"),
        ({"ema_half_life": -1}, "ema_half_life must be a whole number from 0"),
        ({"engine": "fast"}, "unknown engine 'fast'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'. Did you mean 'cosine'"),
        ({"schedule": "multistep+at=5"}, "shares of the run"),
        ({"scheme": "three_stage"}, "unknown scheme 'three_stage'"),
        ({"loss": "hinges"}, "unknown loss 'hinges'"),
        ({"schedule": "cosine+warmup=1"}, "warmup must be from 0 up to 1"),
        ({"penalty_schedule": "cosine+to=2"}, "to must be from 0 to 1"),
        ({"penalty_schedule": "cosin"}, "unknown schedule 'cosin'"),
        ({"augmentation": "diffaugmen"}, "diffaugmen"),
        ({"augmentation": 3}, "augmentation must be text"),
        ({"accumulate": 3}, "accumulate 3 divides a batch equally, and batch_size 8"),
        ({"accumulate": 0}, "accumulate must be a whole number from 1"),
        ({"generator_clip": 0}, "generator_clip must be above 0"),
        ({"discriminator_clip": float("nan")}, "discriminator_clip must be above 0"),
        ({"gradient_normalization": 1.5}, "decay must be from 0 up to 1"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_a_recipe_survives_json():
    recipe = Recipe(**TINY, betas=(0.0, 0.99))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(InputError, match="a recipe has no colour"):
        Recipe.from_dict(recipe.to_dict() | {"colour": "red"})


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_captured_run_goes_on_where_it_stopped(scheme, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # Adam makes much of the rounding of atomic sums
    recipe = Recipe(**TINY, scheme=scheme, engine="cuda_graph", schedule="cosine", loss="hinge")
    whole = Trainer(recipe, device="cuda")  # each trained as soon as it is made, which sets the seed
    whole.train(10)
    first = Trainer(recipe, device="cuda")
    first.train(5)
    first.save(tmp_path)
    second = Trainer(recipe, device="cuda")
    second.resume(checkpoint.load_newest(tmp_path))
    second.train(5)
    for mine, its in zip(state(second), state(whole), strict=True):
        torch.testing.assert_close(mine, its)
