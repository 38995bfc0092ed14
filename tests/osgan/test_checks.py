"""What a step refuses or remarks on: each a sentence that names G or D, the value and the remedy."""

import copy

import pytest
import torch
from reference import (
    BATCH,
    SCHEMES,
    Generator,
    as_custom,
    latent_of,
    make_discriminator,
    make_labels,
    make_networks,
    make_real,
    snapshot,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

import osgan
from osgan.errors import InputError, InputWarning


def build(name, players, optimizers=None, loss="nonsaturating", latent=None):
    optimizers = optimizers or [torch.optim.SGD(p.parameters(), lr=0.1) for p in players]
    return osgan.build_scheme(name, *players, *optimizers, loss=loss, latent=latent or latent_of())


def adam(network):
    return torch.optim.Adam(network.parameters(), 1e-3)


# --- optimizers


def swapped(G, D):
    return adam(D), adam(G)


def one_for_both(G, D):
    optimizer = torch.optim.Adam([*G.parameters(), *D.parameters()])
    return optimizer, optimizer


def one_holds_both(G, D):
    return adam(G), torch.optim.Adam([*D.parameters(), *G.parameters()])


def of_copies(G, D):
    return [adam(copy.deepcopy(network)) for network in (G, D)]


def without_the_last_layer(G, D):
    return adam(G), torch.optim.Adam(list(D.parameters())[:-1])


def twice(G, D):
    weights = list(D.parameters())
    optimizer = adam(D)
    optimizer.param_groups[0]["params"] = [*weights, weights[0]]
    return adam(G), optimizer


def lbfgs(G, D):
    return adam(G), torch.optim.LBFGS(D.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (swapped, "the generator's optimizer holds the discriminator's weight .* swapped"),
        (one_for_both, "one optimizer for both networks would step twice"),
        (one_holds_both, "the discriminator's optimizer holds the generator's weight 'layers.0.weight'"),
        (of_copies, r"the generator's weight 'layers.0.weight' \(6 in all\) wants a gradient and is not in"),
        (without_the_last_layer, "the discriminator's weight '5.bias' .*1 in all"),
        (twice, "the discriminator's optimizer holds '0.weight' twice"),
        (lbfgs, "the discriminator's optimizer LBFGS evaluates the loss several times"),
        (lambda G, D: (adam(G), None), "the discriminator's optimizer must be a torch.optim.Optimizer, got NoneType"),
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_optimizers_that_do_not_move_each_its_own_network(scheme, make, message):
    players = make_networks()
    before = snapshot(*players)
    with pytest.raises(InputError, match=message):
        build(scheme, players, make(*players))
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), snapshot(*players).values(), strict=True) if a is not None
    )


def test_weights_that_are_frozen_need_no_optimizer():
    generator, discriminator = make_networks()
    discriminator[0].requires_grad_(False)
    optimizers = adam(generator), torch.optim.Adam([p for p in discriminator.parameters() if p.requires_grad])
    build("one_stage", (generator, discriminator), optimizers)(make_real())


def test_verify_looks_at_optimizers_that_are_given():
    players = make_networks()
    asked = *players, "hinge", make_real(), latent_of()
    assert "not given" in osgan.verify(*asked).optimizers
    assert "once" in osgan.verify(*asked, optimizers=(adam(players[0]), adam(players[1]))).optimizers
    with pytest.raises(InputError, match="swapped"):
        osgan.verify(*asked, optimizers=swapped(*players))


# --- networks


class Gives(nn.Module):
    """A network that returns what `pick` makes of its images."""

    def __init__(self, network, pick):
        super().__init__()
        self.network, self.pick = network, pick

    def forward(self, *inputs):
        return self.pick(self.network(*inputs))


class Reentrant(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = make_discriminator()

    def forward(self, x):
        return checkpoint(self.network, x, use_reentrant=True)


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(1))


def wants_other_images():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 1))


@pytest.mark.parametrize(
    ("change_G", "change_D", "message"),
    [
        (lambda G: Gives(G, lambda x: (x, 1)), None, "the generator must return one .*returned tuple"),
        (lambda G: Gives(G, lambda x: [x]), None, "the generator must return one tensor .* returned list"),
        (lambda G: Gives(G, lambda x: {"image": x}), None, "the generator must return one tensor .* returned dict"),
        (lambda G: Gives(G, lambda x: x[:, :, ::2]), None, r"shape \(2, 4, 8\) .* the real ones have \(2, 8, 8\)"),
        (lambda G: Gives(G, lambda x: x[:, :1]), None, r"images of shape \(1, 8, 8\)"),
        (lambda G: Gives(G, lambda x: x.detach()), None, "the generator's images carry no gradient"),
        (lambda G: G.requires_grad_(False), None, "no weight of the generator wants a gradient"),
        (None, lambda D: D.requires_grad_(False), "no weight of the discriminator wants a gradient"),
        (None, lambda D: Gives(D, lambda s: (s, s)), "one tensor of logits .* returned tuple"),
        (None, lambda D: Gives(D, lambda s: s.detach()), "the discriminator gives no gradient with respect to"),
        (None, lambda D: lazy().double(), "the discriminator's '1.weight' belongs to a lazy layer"),
        (None, lambda D: wants_other_images().double(), r"the discriminator fails on \(6, 2, 8, 8\) .*shapes"),
        (None, lambda D: Reentrant().double(), "use_reentrant=False"),
        (None, lambda D: nn.DataParallel(D), r"in nn.DataParallel.*\.module"),
        (None, lambda D: D.float(), "its weights are torch.float32: give it real.to"),
        (lambda G: G.float(), None, r"float32: latent=osgan.Gaussian\(..., dtype=torch.float32\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["one_stage", "simultaneous", "two_stage_reused"])
def test_networks_that_no_step_can_use(scheme, change_G, change_D, message):
    generator, discriminator = make_networks()
    generator = (change_G or (lambda G: G))(generator)
    discriminator = (change_D or (lambda D: D))(
        discriminator.double() if change_D is None else make_discriminator().double()
    )
    with pytest.raises(InputError, match=message) as caught:
        build(scheme, (generator, discriminator), optimizers=lazy_optimizers(generator, discriminator))(make_real())
    assert len(str(caught.value)) < 500
    assert caught.value.__cause__ is None  # one sentence, and no traceback of the forward pass above it


@pytest.mark.parametrize("look", [osgan.verify, osgan.predict_speedup], ids=lambda f: f.__name__)
def test_verify_and_predict_refuse_the_same(look):
    generator, discriminator = make_networks()
    for players, message in (
        ((generator.requires_grad_(False), discriminator), "no weight of the generator wants a gradient"),
        ((generator, lazy()), "belongs to a lazy layer"),
        ((generator, nn.DataParallel(discriminator)), "nn.DataParallel"),
        ((generator, lambda x: x), "must be a torch.nn.Module"),
        ((nn.Identity(), discriminator), "no weight of the generator"),
    ):
        with pytest.raises(InputError, match=message):
            look(*players, "hinge", make_real(), latent_of())
    generator.requires_grad_(True)
    for real, message in ((make_real().byte(), "torch.uint8"), ([1], "got list"), (make_real().float(), "float64")):
        if look is osgan.verify and message == "float64":
            continue  # it brings all to one type
        with pytest.raises(InputError, match=message):
            look(generator, discriminator, "hinge", real, latent_of())


def lazy_optimizers(*players):
    return [torch.optim.SGD(player.parameters(), lr=0.1) for player in players]


def test_a_function_is_no_network():
    generator, discriminator = make_networks()
    with pytest.raises(InputError, match=r"the discriminator must be a torch.nn.Module, got function"):
        build("one_stage", (generator, lambda x: discriminator(x)), (adam(generator), adam(discriminator)))


def test_shared_weights_are_said():
    generator, discriminator = make_networks()
    discriminator.register_parameter("shared", generator.layers[0].weight)
    with pytest.warns(InputWarning, match=r"the generator's 'layers.0.weight' is the discriminator's 'shared'"):
        build("one_stage", (generator, discriminator))(make_real())


# --- the batch


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (lambda: (make_real() * 127).to(torch.uint8), "real images are torch.uint8: .* x / 127.5 - 1 for bytes"),
        (lambda: [make_real()], "real must be one tensor of images .* got list"),
        (lambda: torch.zeros(0, 2, 8, 8, dtype=torch.float64), "something in it"),
        (lambda: make_real().float(), "its weights are torch.float64: give it real.to"),
        (lambda: make_real() * float("nan"), "the real images hold NaN"),
        (lambda: make_real()[:, :, :4], "discriminator fails on"),
    ],
)
@pytest.mark.parametrize("scheme", ["one_stage", "simultaneous", "two_stage"])
def test_batches_that_no_step_can_take(scheme, real, message):
    with pytest.raises(InputError, match=message):
        build(scheme, make_networks())(real())


def test_a_resolution_that_changes_later_is_looked_at():
    step = build("one_stage", make_networks())
    step(make_real())
    with pytest.raises(InputError, match="the discriminator fails on"):
        step(make_real()[:, :, :4, :4])


@pytest.mark.parametrize(
    ("labels", "message"),
    [(make_labels(3), "a row for each of the 6 images, got .3,."), (3, "got int"), (torch.tensor(1), r"got \(\)")],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(InputError, match=message):
        build("one_stage", make_networks(conditional=True))(make_real(), labels)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_step_without_gradients(context):
    step = build("one_stage", make_networks())
    with context(), pytest.raises(InputError, match=r"outside torch\.no_grad"):
        step(make_real())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda x: (x + 1) * 127.5, "the real images reach from .* x / 127.5 - 1"),
        (lambda x: (x + 1) / 2, "the real images are never below 0 .* 2 . x - 1"),
    ],
)
def test_images_out_of_range_are_remarked_on_once(images, message, recwarn):
    step = build("simultaneous", make_networks())
    with pytest.warns(InputWarning, match=message):
        step(images(make_real()))
    step(images(make_real()))


def test_a_generator_that_ends_in_a_sigmoid_is_remarked_on():
    generator, discriminator = make_networks()
    with pytest.warns(InputWarning, match="the generated images are never below 0"):
        build("one_stage", (Gives(generator, torch.sigmoid), discriminator))(make_real())


# --- latents


class Convolutional(Generator):
    def forward(self, z):
        return self.layers(z)


def test_latents_of_another_shape_are_explained_and_can_be_had():
    players = Convolutional().double(), make_discriminator().double()
    with pytest.raises(InputError, match=r"latents \(6, 4\) .*latent=osgan.Gaussian\(\(4, 1, 1\)\)"):
        build("one_stage", players, latent=osgan.Gaussian(4, torch.float64))(make_real())
    build("one_stage", players, latent=osgan.Gaussian((4, 1, 1), torch.float64))(make_real())


def test_too_many_dimensions_are_explained():
    generator = nn.Sequential(nn.Linear(4, 128), nn.Unflatten(1, (2, 8, 8))).double()
    latent = osgan.Gaussian((4, 1, 1), torch.float64)
    step = build("one_stage", (generator, make_discriminator().double()), latent=latent)
    with pytest.raises(InputError, match=r"latent=osgan.Gaussian\(4\)"):
        step(make_real())


@pytest.mark.parametrize("dim", [0, -1, 1.5, True, (), (4, 0), "100", None])
def test_latents_of_no_size(dim):
    with pytest.raises(InputError, match="Gaussian takes a size"):
        osgan.Gaussian(dim)


def test_a_latent_that_fails_is_named():
    def broken(n, device):
        raise KeyError("nothing left")

    with pytest.raises(InputError, match=r"the latent fails .*KeyError: 'nothing left' .*test_checks.py"):
        build("one_stage", make_networks(), latent=broken)(make_real())


# --- D that ends in a sigmoid


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "lsgan", "minimax"])
def test_a_squashed_discriminator_under_a_loss_of_logits_is_remarked_on(loss):
    generator, discriminator = make_networks()
    with pytest.warns(InputWarning, match=r"lies in \[0, 1\], as after a sigmoid, .* remove the sigmoid"):
        build("simultaneous", (generator, Gives(discriminator, torch.sigmoid)), loss=loss)(make_real())
    found = osgan.verify(generator, Gives(discriminator, torch.sigmoid), loss, make_real(), latent_of())
    assert any("remove the sigmoid" in warning for warning in found.warnings)
    assert "remove the sigmoid" in str(found)


def test_a_loss_of_probabilities_wants_the_sigmoid():
    def bce(p, target):
        return nn.functional.binary_cross_entropy(p, torch.full_like(p, target))

    loss = osgan.AdversarialLoss("bce", lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: bce(f, 1.0))
    generator, discriminator = make_networks()
    build("one_stage", (generator, Gives(discriminator, torch.sigmoid)), loss=loss)(make_real())


def test_small_positive_logits_are_no_sigmoid():
    generator, discriminator = make_networks()
    with torch.no_grad():
        discriminator[5].weight.mul_(0.01)
        discriminator[5].bias.fill_(0.5)
    build("one_stage", (generator, discriminator))(make_real())


# --- copies


class HoldsALock(nn.Linear):
    def __init__(self):
        import threading

        super().__init__(128, 1)
        self.lock = threading.Lock()

    def forward(self, x):
        with self.lock:
            return super().forward(x.flatten(1))


def test_what_cannot_be_copied_is_shared():
    generator, _ = make_networks()
    step = build("one_stage", (generator, HoldsALock().double()))
    step(make_real())
    assert osgan.verify(step.generator, step.discriminator, "hinge", make_real(), latent_of()).exact


class Uncopyable(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("never")


def test_a_layer_that_cannot_be_copied_is_named():
    generator, _ = make_networks()
    discriminator = nn.Sequential(nn.Flatten(), Uncopyable(128, 1)).double()
    with pytest.raises(InputError, match=r"the discriminator cannot be copied.* its layer '1' \(TypeError: never"):
        osgan.verify(generator, discriminator, "hinge", make_real(), latent_of())


def test_batches_are_of_the_size_that_the_tests_say():
    assert BATCH == 6


def test_a_custom_loss_is_taken_as_the_library_takes_its_own():
    build("one_stage", make_networks(), loss=as_custom("ragan"))(make_real())
