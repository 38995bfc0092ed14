import copy

import pytest
import torch
from reference import relative_error

import osgan
from osgan.nets.gat import cgat, gat
from osgan.nets.transformer import Attention, FromImage, Positions, Sizes, ToImage, normalised
from osgan.regularizers import R1

TINY = {"resolution": 16, "channels": 2, "width": 12, "depth": 3, "heads": 3, "patch_size": 4, "latent_dim": 5}


def double(**options):
    return [network.double() for network in gat(**TINY | options)]


def images_like(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("patch_size", [1, 2, 3, 4])
def test_every_token_is_of_its_patch_and_half_of_those_around_it(patch_size):
    sizes = Sizes(12, 2, 5, 1, 1, patch_size, checkpoint=False)
    grid, overlap = 12 // patch_size, patch_size // 2
    from_image, to_image = FromImage(sizes).double(), ToImage(sizes, gain=1.0).double()
    images = images_like(1, 2, 12, 12).requires_grad_()
    tokens = from_image(images)
    assert tokens.shape == (1, grid * grid, 5)
    row, column = grid - 2, 1
    (of_images,) = torch.autograd.grad(tokens[0, row * grid + column].sum(), images)
    given = torch.zeros(1, grid * grid, 5, dtype=torch.float64)
    given[0, row * grid + column] = 1
    added = to_image(given) - to_image(torch.zeros_like(given))
    expected = torch.zeros(12, 12, dtype=torch.bool)
    top, left = row * patch_size, column * patch_size
    expected[top - overlap : top + patch_size + overlap, left - overlap : left + patch_size + overlap] = True
    for found in (of_images, added):
        assert torch.equal((found != 0).all(1)[0], expected)


@pytest.mark.parametrize("segments", [(), (4, 1, 6)])
def test_attention_is_the_plain_formula_in_each_segment(segments):
    attention = Attention(6, 2).double()
    with torch.no_grad():
        attention.sharpness.uniform_(0.5, 2)
    x = torch.randn(3, 11, 6, dtype=torch.float64)
    segment = torch.arange(11) * 0 if not segments else torch.repeat_interleave(torch.tensor(segments))
    apart = segment[:, None] != segment
    query, key, value = attention.inputs(x).chunk(3, dim=2)
    heads = []
    for q, k, v in zip(*(part.chunk(2, dim=2) for part in (query, key, value)), strict=True):
        q, k = (part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
        logits = (q * attention.sharpness) @ k.transpose(1, 2) / 3**0.5
        heads.append(logits.masked_fill(apart, -torch.inf).softmax(-1) @ v)
    torch.testing.assert_close(
        attention(x, segments), attention.output(torch.cat(heads, dim=2)), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("width", [5, 8, 64])
def test_positions_start_all_different_and_of_one_size(width):
    weight = Positions(8, width).weight.detach()
    assert weight.shape == (64, width)
    assert torch.cdist(weight, weight).fill_diagonal_(1).min() > 0.05
    assert weight.square().mean().item() == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize("resolution", [32, 64])
def test_tokens_and_size_at_the_defaults(resolution):
    with torch.device("meta"):
        generator, discriminator = gat(resolution=resolution)
    for network in (generator, discriminator):
        assert network.positions.weight.shape == (256, 384)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    assert sizes[0] / sizes[1] == pytest.approx(4 / 3, rel=0.02)  # G has a layer of 4 width^2 a block for its styles


@pytest.mark.parametrize("depth", [3, 24])
def test_images_differ_and_d_is_flat_at_the_start(depth):
    """At any depth: images have spread and most of it between samples; D's logits hardly tell images apart yet."""
    generator, discriminator = gat(resolution=16, width=64, depth=depth, heads=4, patch_size=4)
    with torch.no_grad():
        images = generator(torch.randn(64, 64))
        logits = discriminator(torch.rand(64, 3, 16, 16) * 2 - 1)
    assert 0.4 < images.std().item() < 0.9
    assert (images - images.mean(0)).std() > 0.5 * images.std()
    assert 0.01 < logits.std().item() < 0.5
    assert logits.abs().max() < 5


def test_what_the_latent_is_does_not_depend_on_its_length():
    generator, _ = double()
    z = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(generator(z), generator(7 * z), rtol=1e-3, atol=1e-3)
    assert normalised(z).square().mean(1) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("penalised", [False, True])
def test_checkpointing_changes_no_gradient(penalised):
    plain = double()
    others = double(checkpoint=True)
    for network, other in zip(plain, others, strict=True):
        other.load_state_dict(network.state_dict())
    z, real = torch.randn(4, 5, dtype=torch.float64), images_like(4, 2, 16, 16)
    for generator, discriminator in (plain, others):
        discriminator(generator(z)).square().sum().backward()
        if penalised:
            R1(1.0).accumulate(discriminator, real, real, ())
    for network, other in zip(plain, others, strict=True):
        found, expected = ([p.grad for p in n.parameters()] for n in (other, network))
        assert relative_error(found, expected) <= 1e-10


@pytest.mark.parametrize(("build", "checkpoint"), [(gat, True), (cgat, False)])
def test_compiled_networks_are_one_graph(build, checkpoint):
    labels = (torch.tensor([0, 2, 1]),) if build is cgat else ()
    classes = {"num_classes": 3} if build is cgat else {}
    generator, discriminator = (n.double() for n in build(**TINY, checkpoint=checkpoint, **classes))
    z, real = torch.randn(3, 5, dtype=torch.float64), images_like(3, 2, 16, 16)
    for network, given in ((generator, z), (discriminator, real)):
        compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="aot_eager")
        for each in (network, compiled):
            each(given, *labels).square().sum().backward()
        torch.testing.assert_close(compiled(given, *labels), network(given, *labels), rtol=1e-10, atol=1e-10)
        gradients = ([p.grad for p in each.parameters()] for each in (compiled, network))
        assert relative_error(*gradients) <= 1e-10


def test_verify_says_exact_with_penalties_in_the_step():
    generator, discriminator = double(checkpoint=True)
    latent = osgan.Gaussian(5, torch.float64)
    result = osgan.verify(generator, discriminator, "rpgan", images_like(4, 2, 16, 16), latent)
    assert result.exact, result.reason
    optimizers = [torch.optim.Adam(n.parameters(), betas=(0.0, 0.99)) for n in (generator, discriminator)]
    step = osgan.OneStage(
        generator,
        discriminator,
        *optimizers,
        loss="rpgan",
        latent=latent,
        regularizers=[R1(0.1), osgan.regularizers.R2(0.1)],
    )
    for _ in range(2):
        assert torch.stack(step(images_like(4, 2, 16, 16))).isfinite().all()
