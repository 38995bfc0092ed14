"""n_critic = k is k - 1 updates of D alone and then an ordinary step, in every scheme and under every loop."""

import copy

import pytest
import torch
from reference import (
    BATCH,
    LOSSES,
    SCHEMES,
    TEXTBOOK,
    assert_exact,
    assign,
    latent_of,
    make_labels,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
)

import osgan
from osgan import data, nets
from osgan.regularizers import R1, WeightClipping
from osgan.training.engine import Engine
from osgan.training.loop import Loop
from osgan.training.recipe import Recipe
from osgan.training.trainer import Trainer


def weights(scheme):
    return [p for network in (scheme.generator, scheme.discriminator) for p in network.parameters()]


def critic_update(generator, discriminator, loss, real, labels, lr):
    """Update D alone by plain gradient descent on the textbook loss."""
    with torch.no_grad():
        fake = generator(latent_of()(real.shape[0], real.device), *labels)
    of_discriminator, _ = TEXTBOOK[loss]
    value = of_discriminator(discriminator(real, *labels).flatten(), discriminator(fake, *labels).flatten())
    parameters = list(discriminator.parameters())
    assign(discriminator, torch.autograd.grad(value, parameters))
    with torch.no_grad():
        for parameter in parameters:
            parameter -= lr * parameter.grad


@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
@pytest.mark.parametrize("n_critic", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_it_is_so_many_updates_of_d_and_then_an_ordinary_step(name, loss, n_critic, conditional):
    networks = make_networks(conditional=conditional)
    start = [p.clone() for network in networks for p in network.parameters()]
    real = make_real(batch=n_critic * BATCH)
    labels = make_labels(n_critic * BATCH).flip(0) if conditional else None
    mine = make_scheme(name, *copy.deepcopy(networks), loss, lr=0.1, n_critic=n_critic)
    torch.manual_seed(3)
    mine(real, labels)

    ordinary = make_scheme(name, *copy.deepcopy(networks), loss, lr=0.1)
    parts = [()] * n_critic if labels is None else [(part,) for part in labels.split(BATCH)]
    torch.manual_seed(3)
    for images, theirs in list(zip(real.split(BATCH), parts, strict=True))[:-1]:
        critic_update(ordinary.generator, ordinary.discriminator, loss, images, theirs, 0.1)
    stats = ordinary(real[-BATCH:], *parts[-1])
    assert relative_error(weights(ordinary), start) > 1e-4
    assert relative_error(weights(mine), weights(ordinary)) <= 1e-10
    assert all(value.isfinite() for value in stats)
    assert mine.num_steps == 1


def test_a_critic_step_left_out_would_be_seen():
    networks, real = make_networks(), make_real(batch=2 * BATCH)
    ends = []
    for n_critic, images in ((2, real), (1, real[BATCH:])):
        scheme = make_scheme("one_stage", *copy.deepcopy(networks), "hinge", lr=0.1, n_critic=n_critic)
        torch.manual_seed(3)
        scheme(images)
        ends.append(weights(scheme))
    assert relative_error(*ends) > 1e-4


def test_the_generator_is_still_in_the_critic_steps():
    scheme = make_scheme("one_stage", *make_networks(), "nonsaturating", lr=0.1)
    before = [p.clone() for p in scheme.generator.parameters()]
    scheme.prepare(make_real())
    scheme.critic_step(make_real(), ())
    assert all(torch.equal(a, b) for a, b in zip(before, scheme.generator.parameters(), strict=True))
    assert all(p.grad is None for p in scheme.generator.parameters())


@pytest.mark.parametrize("name", SCHEMES)
def test_every_update_of_d_is_regularised(name):
    clip = WeightClipping(0.02)
    scheme = make_scheme(name, *make_networks(), "wgan", lr=0.5, n_critic=3, regularizers=(clip,))
    seen = []
    scheme.discriminator_optimizer.register_step_pre_hook(
        lambda *_: seen.append(max(p.abs().max().item() for p in scheme.discriminator.parameters()))
    )
    scheme(make_real(batch=3 * BATCH))
    assert len(seen) == 3
    assert seen[0] > 0.02
    assert max(seen[1:]) <= 0.02


@pytest.mark.parametrize("loss", LOSSES)
def test_the_last_update_is_exact(loss):
    """With D at rest, so that the critic steps change nothing, the gradients left are the reference's."""
    scheme = make_scheme("one_stage", *make_networks(), loss)
    scheme.prepare(make_real())
    scheme.critic_step(make_real(), ())
    assert_exact(scheme, make_real())


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_a_number_of_updates_that_is_none_is_refused(value):
    with pytest.raises(osgan.InputError, match="n_critic, the updates of D a step, is 1 to 1000"):
        make_scheme("one_stage", *make_networks(), "hinge", n_critic=value)


@pytest.mark.parametrize("size", [2, 7])
def test_a_batch_that_does_not_divide_is_refused(size):
    scheme = make_scheme("one_stage", *make_networks(), "hinge", n_critic=3)
    with pytest.raises(osgan.InputError, match=f"3 batches in one: {size} images are no multiple of 3"):
        scheme(make_real(batch=size))


@pytest.mark.parametrize("name", SCHEMES)
def test_flops_are_those_of_the_critic_steps_and_one_step(name):
    networks, real = make_networks(), make_real()
    flops = {
        k: osgan.predict_speedup(*networks, "nonsaturating", real, latent_of(), n_critic=k).flops[name]
        for k in (1, 2, 5)
    }
    critic = flops[2] - flops[1]
    assert critic > 0
    assert flops[5] == flops[1] + 4 * critic


def test_one_stage_gains_less_with_more_critic_steps():
    networks, real = make_networks(), make_real()
    found = [
        osgan.predict_speedup(*networks, "wgan", real, latent_of(), n_critic=k).ceilings["two_stage"] for k in (1, 2, 5)
    ]
    assert found[0] > found[1] > found[2] > 1


def test_a_recipe_counts_the_images_of_every_update():
    recipe = Recipe(dataset="digits", architecture="mlp+resolution=8+width=8", batch_size=4, n_critic=3, images=240)
    assert (recipe.images_per_step, recipe.num_steps) == (12, 20)
    with pytest.raises(osgan.InputError, match="n_critic, the updates of D a step, is 1 to 1000; got 0"):
        Recipe(dataset="digits", architecture="mlp", n_critic=0)
    trainer = Trainer(recipe)
    trainer.train(2)
    assert trainer.images_seen == 24
    assert trainer.loop.scheme.n_critic == 3
    assert next(trainer.loop.batches)[0].shape[0] == 12


def test_a_loop_draws_the_batches_in_one_and_decides_by_one_of_them():
    dataset = data.load("digits", resolution=32, device="cpu")
    built = nets.build("dcgan32+width=4", channels=1)
    sizes = []
    built.discriminator.register_forward_hook(lambda module, given, logits: sizes.append(len(given[0])))
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in (built.generator, built.discriminator)]
    scheme = osgan.OneStage(
        built.generator,
        built.discriminator,
        *optimizers,
        loss="hinge",
        latent=built.latent,
        n_critic=3,
        regularizers=(R1(0.1, every=2),),
    )
    loop = Loop(scheme, dataset.batches(12, seed=0), Engine())
    assert 12 not in sizes
    sizes.clear()
    loop.step()
    assert sum(sizes) == 3 * 8  # real and fake; the penalty on the real ones goes with them
    assert loop.batches.drawn == 1
