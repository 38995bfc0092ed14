import pytest
import torch
from reference import (
    ASYMMETRIC,
    SCHEMES,
    changed,
    latent_of,
    make_labels,
    make_networks,
    make_real,
    snapshot,
    with_gradients,
)
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import osgan
from osgan import nets
from osgan.cost import count_step, count_work

# design.md's table, from the formulas of the DCGAN at 64 pixels and width 128
CEILINGS = {
    "two_stage": 1.44,
    "two_stage_frozen": 1.33,
    "two_stage_reused": 1.33,
    "two_stage_reused_frozen": 1.22,
    "simultaneous": 1.11,
    "one_stage": 1.0,
}


def test_ceilings_of_the_papers_dcgan():
    built = nets.build("dcgan64+width=128", channels=3)
    real = torch.zeros(2, 3, 64, 64)
    predicted = osgan.predict_speedup(built.generator, built.discriminator, "nonsaturating", real, built.latent)
    assert predicted.ceilings == pytest.approx(CEILINGS, rel=0.03)
    assert predicted.ceilings["one_stage"] == 1
    assert predicted.reasons == {}


BATCH, LATENT, PIXELS, HIDDEN = 5, 3, 6, 7


def linear_pair(bias=True):
    generator = nn.Linear(LATENT, PIXELS, bias=bias)
    return generator, nn.Sequential(nn.Linear(PIXELS, HIDDEN, bias), nn.Tanh(), nn.Linear(HIDDEN, 1, bias))


def closed_form_flops():
    """Count a linear pair's step by hand: 2 FLOPs a weight and sample, in each of the three passes.

    G's latents ask for no gradient. D's first layer passes one on to the images wherever they ask for it: to a leaf
    or to G, and to both halves of a joint batch.
    """
    g = 2 * LATENT * PIXELS
    first, last = 2 * PIXELS * HIDDEN, 2 * HIDDEN
    d = first + last
    update_d = 2 * (d + d + last)  # both halves: forward, weights, and back to the first layer
    update_g = {False: d + d + d, True: d + d}  # frozen: no gradients of D's weights
    flops = {
        "two_stage": g + update_d + g + update_g[False] + g,
        "two_stage_frozen": g + update_d + g + update_g[True] + g,
        "two_stage_reused": g + update_d + update_g[False] + g,
        "two_stage_reused_frozen": g + update_d + update_g[True] + g,
        "simultaneous": g + update_d + d + g,
        "one_stage": g + 2 * (d + d + d) + g,
    }
    return {name: BATCH * count for name, count in flops.items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", ["nonsaturating", "wgan"])
def test_flops_of_a_linear_pair_are_those_of_the_closed_form(bias, loss):
    real = torch.randn(BATCH, PIXELS)
    predicted = osgan.predict_speedup(*linear_pair(bias), loss, real, osgan.Gaussian(LATENT))
    assert predicted.flops == closed_form_flops()
    assert all(type(count) is int for count in predicted.flops.values())


def test_a_paired_loss_scores_the_reals_once_more_in_two_stages():
    predicted = osgan.predict_speedup(*linear_pair(), "rpgan", torch.randn(BATCH, PIXELS), osgan.Gaussian(LATENT))
    d = 2 * BATCH * (PIXELS * HIDDEN + HIDDEN)
    more = {name: count - closed_form_flops()[name] for name, count in predicted.flops.items()}
    assert more == {name: d if name.startswith("two_stage") else 0 for name in SCHEMES}


def test_penalties_are_in():
    real, latent = torch.randn(BATCH, PIXELS), osgan.Gaussian(LATENT)
    plain, penalised = (
        osgan.predict_speedup(*linear_pair(), "wgan", real, latent, regularizers=regularizers).flops
        for regularizers in ((), (osgan.regularizers.R1(1.0),))
    )
    more = {penalised[name] - plain[name] for name in SCHEMES}
    assert len(more) == 1, "a penalty costs every scheme the same"
    assert more.pop() > 0


@pytest.mark.parametrize("loss", ASYMMETRIC)
def test_no_figure_where_one_stage_is_not_exact(loss):
    predicted = osgan.predict_speedup(*make_networks("batch"), loss, make_real(), latent_of())
    assert list(predicted.flops) == list(SCHEMES)
    assert predicted.flops["one_stage"] is None
    assert predicted.ceilings == dict.fromkeys(SCHEMES)
    assert list(predicted.reasons) == ["one_stage"]
    assert "mixes samples" in predicted.reasons["one_stage"]
    assert all(predicted.flops[name] > 0 for name in SCHEMES if name != "one_stage")


def test_batch_norm_with_a_symmetric_loss_has_its_figure():
    predicted = osgan.predict_speedup(*make_networks("batch"), "minimax", make_real(), latent_of())
    assert predicted.reasons == {}
    assert all(ceiling > 1 for name, ceiling in predicted.ceilings.items() if name.startswith("two_stage"))


@pytest.mark.parametrize("conditional", [False, True])
def test_the_networks_are_left_alone(conditional):
    networks = make_networks("batch", conditional=conditional)
    labels = make_labels() if conditional else None
    with_gradients(*networks)
    real = make_real()
    before = snapshot(*networks)
    osgan.predict_speedup(*networks, "minimax", real, latent_of(), labels)
    before.pop("rng")
    after = snapshot(*networks)
    after.pop("rng")
    assert changed(before, after) == []


def test_a_prepared_step_is_what_is_counted():
    generator, discriminator = linear_pair()
    scheme = osgan.OneStage(
        generator,
        discriminator,
        torch.optim.SGD(generator.parameters(), lr=0.1),
        torch.optim.SGD(discriminator.parameters(), lr=0.1),
        loss="wgan",
        latent=osgan.Gaussian(LATENT),
    )
    real = torch.randn(BATCH, PIXELS)
    scheme.prepare(real)
    assert count_work(scheme, real).flops == closed_form_flops()["one_stage"]


def test_attention_is_counted_on_a_cpu():
    """Two products of matrices, and five in the backward pass, which computes the first again."""
    n, heads, queries, keys, width = 2, 3, 5, 7, 4
    product = 2 * n * heads * queries * keys * width
    query, key, value = (torch.randn(n, heads, t, width, requires_grad=True) for t in (queries, keys, keys))
    attended = []
    assert count_step(lambda: attended.append(scaled_dot_product_attention(query, key, value))).flops == 2 * product
    assert count_step(lambda: attended[0].sum().backward()).flops == 5 * product
