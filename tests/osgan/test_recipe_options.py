"""What a recipe adds to a step, in every scheme: augmentation, clipping, parts, normalised gradients, scales."""

import copy

import pytest
import torch
from recipe_reference import ALIKE, PENALTIES, both_gradients
from recipe_reference import assert_exact as assert_exact_with
from reference import (
    BATCH,
    CHANNELS,
    LATENT_DIM,
    LOSSES,
    SCHEMES,
    SIZE,
    assert_exact,
    gradients_of,
    make_labels,
    make_networks,
    make_real,
    make_scheme,
    relative_error,
)
from torch import nn
from waiting import Waiting

import osgan
from osgan.augmentation import Augmentation, DiffAugment, Drawn
from osgan.normalization import GradientNormalization
from osgan.regularizers import AR1, AR2, R1, R2, Consistency, GradientPenalty


class Blend(Augmentation):
    """Mix every image with its mirror image by a number of its own, and add a number of its own."""

    def draw(self, images):
        numbers = torch.rand(len(images), 2, dtype=images.dtype, device=images.device)
        return Drawn(blend, numbers)


def blend(images, numbers):
    share, shift = numbers.view(len(images), 2, 1, 1, 1, 1).unbind(1)
    return torch.lerp(images, images.flip(-1), share) + shift * images.square()


AUGMENTATIONS = {"blend": Blend(), "diffaugment": DiffAugment()}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
@pytest.mark.parametrize("name", ALIKE)
def test_an_augmentation_is_seen_by_both_players_in_one_draw(name, augmentation, loss):
    assert_exact_with(make_scheme(name, *make_networks(), loss, augmentation=augmentation), make_real())


@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", ALIKE)
def test_penalties_are_taken_through_the_same_draw(name, penalties):
    """R1 is of D and the augmentation together, as StyleGAN2-ADA and R3GAN have it."""
    options = {"regularizers": penalties, "augmentation": Blend()}
    scheme = make_scheme(name, *make_networks(conditional=True), "rpgan", **options)
    assert_exact_with(scheme, make_real(), (make_labels(),))
    scheme = make_scheme(name, *make_networks(), "nonsaturating", accumulate=2, **options)
    assert_exact_with(scheme, make_real())


def test_another_draw_would_be_seen():
    class Restless(Blend):
        def draw(self, images):
            drawn = super().draw(images)
            return Drawn(lambda x, numbers: blend(x, torch.rand_like(numbers)), *drawn.numbers)

    scheme = make_scheme("two_stage_reused", *make_networks(), "rpgan", augmentation=Restless())
    mine, theirs = both_gradients(scheme, make_real())
    assert relative_error(mine[0], theirs[0]) > 1e-3


@pytest.mark.parametrize("name", SCHEMES)
def test_gradient_penalty_and_own_regularizers_see_through_it(name):
    scheme = make_scheme(name, *make_networks(), "wgan", regularizers=(GradientPenalty(1.0),), augmentation=Blend())
    plain = make_scheme(name, *copy.deepcopy((scheme.generator, scheme.discriminator)), "wgan", augmentation=Blend())
    real = make_real()
    found = []
    for each in (scheme, plain):
        torch.manual_seed(1)
        each(real)
        found.append(gradients_of(each.discriminator))
    assert relative_error(*found) > 1e-4


@pytest.mark.parametrize("name", ["two_stage_reused", "two_stage_reused_frozen"])
def test_reused_fakes_are_seen_as_before(name):
    seen = []

    class Watched(Blend):
        def draw(self, images):
            seen.append(images)
            return super().draw(images)

    make_scheme(name, *make_networks(), "rpgan", augmentation=Watched())(make_real())
    assert len(seen) == 2
    seen.clear()
    make_scheme(name.replace("_reused", ""), *make_networks(), "rpgan", augmentation=Watched())(make_real())
    assert len(seen) == 3, "real images as in D's update, fresh fakes anew"


@pytest.mark.parametrize("name", SCHEMES)
def test_each_players_gradient_is_clipped_by_its_own_norm(name):
    networks, real = make_networks(), make_real()
    norms = {}
    for clips in ((None, None), (1e-3, 2e-3), (1e9, None)):
        scheme = make_scheme(
            name, *copy.deepcopy(networks), "rpgan", generator_clip=clips[0], discriminator_clip=clips[1]
        )
        mine, _ = both_gradients(scheme, real)
        norms[clips] = [torch.cat([g.flatten() for g in player]).norm().item() for player in mine]
        if clips == (1e-3, 2e-3):
            assert norms[clips] == pytest.approx(clips, rel=1e-2)
    assert norms[None, None] == pytest.approx(norms[1e9, None])
    assert min(norms[None, None]) > 5e-3


@pytest.mark.parametrize("clip", [0, -1, float("inf"), True, "much"])
def test_a_clip_that_is_none_is_refused(clip):
    for key in ("generator_clip", "discriminator_clip"):
        with pytest.raises(osgan.InputError, match=f"{key} must be above 0, or None"):
            make_scheme("one_stage", *make_networks(), "rpgan", **{key: clip})


@pytest.mark.parametrize("parts", [2, 3, 6])
@pytest.mark.parametrize("name", SCHEMES)
def test_parts_of_a_batch_are_the_batch(name, parts):
    """Without BatchNorm in G nothing tells parts from the whole."""
    networks, real = make_networks(), make_real()
    networks[0].layers[1] = nn.Identity()
    found = []
    for accumulate in (1, parts):
        scheme = make_scheme(name, *copy.deepcopy(networks), "rpgan", lr=0.1, accumulate=accumulate)
        scheme.latent = draw_in_order(5)
        scheme(real)
        found.append([p for n in (scheme.generator, scheme.discriminator) for p in n.parameters()])
    if name in ("two_stage", "two_stage_frozen"):
        found = [
            weights[len(list(networks[0].parameters())) :] for weights in found
        ]  # fresh fakes come in another order
    assert relative_error(*found) <= 1e-12


def draw_in_order(seed):
    """Return a latent whose numbers do not depend on how many are asked for at a time."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n, device):
        return torch.stack([torch.randn(LATENT_DIM, generator=generator, dtype=torch.float64) for _ in range(n)])

    return draw


@pytest.mark.parametrize("name", ALIKE)
def test_critic_steps_take_their_parts_too(name):
    scheme = make_scheme(name, *make_networks(), "rpgan", lr=0.1, n_critic=2, accumulate=3)
    sizes = []
    scheme.discriminator.register_forward_hook(lambda module, given, output: sizes.append(len(given[0])))
    scheme.prepare(make_real(batch=2 * BATCH))
    sizes.clear()
    scheme(make_real(batch=2 * BATCH))
    assert max(sizes) <= 4
    assert sum(sizes) >= 2 * 2 * BATCH


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True])
def test_parts_that_are_none_are_refused(accumulate):
    with pytest.raises(osgan.InputError, match="accumulate must be a whole number from 1"):
        make_scheme("one_stage", *make_networks(), "rpgan", accumulate=accumulate)


@pytest.mark.parametrize("penalties", [(), PENALTIES["both"], PENALTIES["exact"]], ids=["plain", "ar", "exact"])
@pytest.mark.parametrize("loss", ["rpgan", "minimax"])
@pytest.mark.parametrize("name", ALIKE)
def test_what_arrives_at_the_images_is_normalised(name, loss, penalties):
    norm, same = GradientNormalization(0.5, scale=3.0), GradientNormalization(0.5, scale=3.0)
    scheme = make_scheme(name, *make_networks(), loss, normalization=norm, regularizers=penalties)
    for seed in range(3):
        assert_exact_with(scheme, make_real(), seed=seed, factor=same)
    assert norm.average > 0


def test_normalisation_takes_the_scale_of_the_loss_away():
    networks, real = make_networks(), make_real()
    found = []
    for scale in (1.0, 1000.0):
        generator, discriminator = copy.deepcopy(networks)
        discriminator = nn.Sequential(discriminator, Times(scale))
        scheme = make_scheme("one_stage", generator, discriminator, "wgan", normalization=GradientNormalization(0.0))
        torch.manual_seed(1)
        scheme(real)
        found.append(gradients_of(generator))
    assert relative_error(*found) <= 1e-6  # eps


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_normalisation_is_the_papers_formula():
    norm = GradientNormalization(0.9)
    average = 0.0
    for _ in range(3):
        gradient = torch.randn(4, 3, 2, 2, dtype=torch.float64)
        average = 0.9 * average + 0.1 * gradient.numel() * gradient.square().sum().item()
        assert norm(gradient).item() == pytest.approx(1 / (average**0.5 + 1e-8), rel=1e-5)


@pytest.mark.parametrize(("options", "message"), [({"decay": 1.0}, "decay must be from 0"), ({"scale": 0}, "a scale")])
def test_what_is_no_normalisation(options, message):
    with pytest.raises(osgan.InputError, match=message):
        GradientNormalization(**options)


def test_normalisation_is_a_weight_of_a_loop_of_ones_own():
    generator, discriminator = make_networks()
    norm = GradientNormalization()
    real = make_real()
    leaf = osgan.tap(generator(torch.randn(BATCH, LATENT_DIM, dtype=torch.float64)))
    r, f = discriminator(real), discriminator(leaf)
    osgan.backward(leaf, (f - r).mean(), -f.mean(), logits=(r, f), weight=norm)
    assert norm.average > 0


class Pyramid(nn.Module):
    """Latents -> three images of a sample (N, 3, C, H, W)."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([make_networks()[0] for _ in range(3)])

    def forward(self, z):
        return torch.stack([part(z) for part in self.parts], 1)


class ScaleWise(nn.Module):
    """Images (N, S, C, H, W), or (N, C, H, W) for S equal ones -> logits (N, S), each of its own image."""

    def __init__(self, mix=0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(2), nn.Linear(CHANNELS * SIZE * SIZE, 8), nn.Tanh(), nn.Linear(8, 1))
        self.own = nn.Parameter(torch.randn(3))
        self.mix = mix

    def forward(self, images):
        if images.ndim == 4:
            images = images.unsqueeze(1).expand(-1, 3, *images.shape[1:])
        logits = self.body(images).squeeze(2) * self.own
        return logits + self.mix * logits.sum(1, keepdim=True)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ALIKE)
def test_a_logit_for_each_image_and_scale(name, loss):
    scheme = make_scheme(name, Pyramid().double(), ScaleWise().double(), loss, regularizers=(Consistency(0.7),))
    scheme.prepare(make_real())
    assert scheme.structure.scales == scheme.structure.logits_per_image == 3
    assert_exact_with(scheme, make_real())


@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("name", ALIKE)
def test_scales_with_all_the_rest(name, penalties):
    options = {"augmentation": Blend(), "accumulate": 2, "regularizers": (*penalties, Consistency(0.3))}
    scheme = make_scheme(name, Pyramid().double(), ScaleWise().double(), "rpgan", **options)
    assert_exact_with(scheme, make_real())


def test_scales_that_a_discriminator_mixes_are_refused():
    scheme = make_scheme("one_stage", Pyramid().double(), ScaleWise(0.1).double(), "rpgan")
    with pytest.raises(osgan.InputError, match="3 logits per image"):
        scheme.prepare(make_real())
    assert_exact_with(make_scheme("simultaneous", Pyramid().double(), ScaleWise(0.1).double(), "rpgan"), make_real())


def test_one_ratio_for_all_scales_would_be_wrong():
    scheme = make_scheme("one_stage", Pyramid().double(), ScaleWise().double(), "rpgan")
    scheme.prepare(make_real())
    take = type(scheme).differentiate

    def blurred(self, scored, num_images, due=None):
        slopes, stats = take(self, scored, num_images, due)
        mean = slopes.generator.view(num_images, -1).mean(1, keepdim=True).expand(-1, 3).flatten()
        return slopes._replace(generator=mean), stats

    scheme.differentiate = blurred.__get__(scheme)
    mine, theirs = both_gradients(scheme, make_real())
    assert relative_error(mine[0], theirs[0]) > 1e-3


def test_consistency_is_for_several_images():
    scheme = make_scheme("one_stage", *make_networks(), "rpgan", regularizers=(Consistency(),))
    with pytest.raises(osgan.InputError, match=r"makes of one sample.*cat32, or leave it out"):
        scheme(make_real())


EVERYTHING = {
    "regularizers": (AR1(0.7, share=0.5), AR2(0.3), R1(0.1, every=2), R2(0.1, every=3)),
    "augmentation": DiffAugment(),
    "generator_clip": 1.0,
    "discriminator_clip": 1.0,
    "accumulate": 2,
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_step_with_everything_reads_nothing_from_the_device(name):
    scheme = make_scheme(name, *make_networks(), "rpgan", lr=0.1, normalization=GradientNormalization(), **EVERYTHING)
    scheme(make_real())
    for _ in range(3):
        with Waiting():
            scheme(make_real())


@pytest.mark.parametrize("name", SCHEMES)
def test_predict_and_verify_take_it_along(name):
    networks, real = make_networks(), make_real()
    latent = osgan.Gaussian(LATENT_DIM, torch.float64)
    found = osgan.predict_speedup(*networks, "rpgan", real, latent, regularizers=(AR1(1), AR2(1)))
    assert found.flops[name] > osgan.predict_speedup(*networks, "rpgan", real, latent).flops[name]


@pytest.mark.parametrize("augmentation", [None, Blend(), DiffAugment()], ids=["plain", "blend", "diffaugment"])
@pytest.mark.parametrize("penalties", [*PENALTIES.values(), (GradientPenalty(2.0), AR2(1.0))], ids=[*PENALTIES, "gp"])
def test_verify_compares_with_penalties_and_augmentation(penalties, augmentation):
    latent = osgan.Gaussian(LATENT_DIM, torch.float64)
    beside = {"regularizers": penalties, "augmentation": augmentation}
    found = osgan.verify(*make_networks(), "rpgan", make_real(), latent, **beside)
    assert found.exact, found
    if any(getattr(penalty, "share", 1) < 1 for penalty in penalties):
        return
    found = osgan.verify(*make_networks("batch"), "minimax", make_real(), latent, **beside)
    assert found.exact == (not any(isinstance(p, AR2) for p in penalties)), found


def test_verify_of_scales():
    latent = osgan.Gaussian(LATENT_DIM, torch.float64)
    networks = Pyramid().double(), ScaleWise().double()
    assert osgan.verify(*networks, "rpgan", make_real(), latent, regularizers=(AR2(1), Consistency())).exact
    found = osgan.verify(networks[0], ScaleWise(0.1).double(), "rpgan", make_real(), latent)
    assert not found.exact


def test_nothing_asked_for_is_nothing_done():
    networks, real = make_networks(), make_real()
    plain = make_scheme("one_stage", *copy.deepcopy(networks), "hinge")
    same = make_scheme(
        "one_stage", *copy.deepcopy(networks), "hinge", augmentation=None, accumulate=1, normalization=None
    )
    assert_exact(plain, real)
    assert_exact(same, real)
    assert relative_error(gradients_of(plain.generator), gradients_of(same.generator)) == 0
    assert plain.tensors() == []
