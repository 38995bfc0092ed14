"""What holds for every architecture that ships: the contract between networks and training steps."""

import copy
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from reference import EXACT, LOSSES
from torch.nn.utils import parametrizations

import osgan
from osgan import nets
from osgan.names import SCHEME_NAMES
from osgan.regularizers import R1
from osgan.structure import Structure

CLASSES = 3
UNBOUNDED = ("r3gan", "stylegan2")
TINY = {
    "mlp": "+width=8+latent_dim=5+depth=2",
    "dcgan": "+width=2+latent_dim=5",
    "sngan": "+width=2+latent_dim=5",
    "sagan": "+width=2+latent_dim=5",
    "r3gan": "+width=16+latent_dim=5+blocks=1",
    "stylegan2": "+width=8+latent_dim=5+mapping_layers=2",
    "gat": "+width=8+latent_dim=5+depth=2+heads=2",
    "cat": "+width=8+latent_dim=5+depth=3+heads=2",
}
EVERY = {name: name + next(tiny for family, tiny in TINY.items() if family in name) for name in nets.ARCHITECTURES}
SMALLEST = {  # one of every family and of every kind of network, as small as it comes
    "mlp": EVERY["mlp"] + "+resolution=8",
    "dcgan": "dcgan32+resolution=16+width=4+latent_dim=5",
    "dcgan without norm": "dcgan32+resolution=16+width=4+latent_dim=5+norm=none",
    "cdcgan": "cdcgan32+resolution=16+width=4+latent_dim=5",
    "sngan32": EVERY["sngan32"],
    "sngan48": "sngan48+width=1+latent_dim=5",
    "csngan": EVERY["csngan32"],
    "sagan": EVERY["sagan32"],
    "csagan": EVERY["csagan32"],
    "r3gan": EVERY["r3gan32"] + "+resolution=16",
    "stylegan2": EVERY["stylegan2_64"] + "+resolution=16",
    "gat": EVERY["gat32"] + "+resolution=16+patch_size=4",
    "gat checkpointed": EVERY["gat32"] + "+resolution=16+patch_size=4+checkpoint=True",
    "cgat": EVERY["cgat32"] + "+resolution=16+patch_size=4",
    "cat": EVERY["cat32"] + "+resolution=16+patch_size=4",
}
CONDITIONAL_FAMILIES = ("cdcgan", "csngan", "csagan", "cgat")
CONDITIONAL = [name for name in SMALLEST if name.startswith(CONDITIONAL_FAMILIES)]
ONE_IMAGE = [name for name in EVERY if not name.startswith("cat")]
"""Without those of several images a latent and a logit for each, whose shapes are in test_cat.py."""


def build(architecture, dtype=torch.float32, channels=2, n=4):
    """Return (G, D), real images, latents of that dtype and a tuple of no or one tensor of labels."""
    built = nets.build(architecture, channels=channels, num_classes=CLASSES)
    size = nets.resolution_of(architecture)
    labels = () if built.num_classes is None else (torch.arange(n) % CLASSES,)
    real = torch.rand(n, channels, size, size, dtype=dtype) * 2 - 1
    return built.generator.to(dtype), built.discriminator.to(dtype), real, partial(built.latent, dtype=dtype), labels


def moved(network, share=0.1):
    """Move every weight a little, so that what starts at zero takes part."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(share * torch.randn_like(parameter))
    return network


def again(network, *inputs):
    torch.manual_seed(7)  # StyleGAN2's noise
    with torch.no_grad():
        return network(*inputs)


@pytest.mark.parametrize("name", ONE_IMAGE)
@pytest.mark.parametrize(("dtype", "channels"), [(torch.float32, 3), (torch.float64, 1)], ids=str)
def test_shapes_types_and_ranges(name, dtype, channels):
    generator, discriminator, real, latent, labels = build(EVERY[name], dtype, channels, n=2)
    assert bool(labels) == name.startswith(CONDITIONAL_FAMILIES)
    assert real.shape[-1] == int((re.findall(r"\d+$", name) or [32])[0])
    assert latent.func == osgan.Gaussian(5)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(10)
        images = generator(latent(2, "cpu"), *labels)
        before = images.clone()
        logits = discriminator(images, *labels)
    assert images.shape == real.shape
    assert images.dtype == dtype
    assert (images.abs().max() > 1) == name.startswith(UNBOUNDED)
    assert images.std() > 0.01
    assert logits.shape == (2,)
    assert logits.dtype == dtype
    assert torch.equal(images, before)  # an activation in place would reach the images
    assert (logits.detach() != 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", SMALLEST)
def test_one_stage_is_exact(name, loss, dtype):
    generator, discriminator, real, latent, labels = build(SMALLEST[name], dtype)
    result = osgan.verify(generator, discriminator, loss, real, latent, *labels)
    scales = 3 if name == "cat" else None
    assert result.structure == Structure(logits_per_image=scales or 1, cross_sample=0.0, scales=scales)
    assert result.exact, result.reason
    assert result.generator_error <= EXACT[dtype]
    assert result.discriminator_error <= EXACT[dtype]


@pytest.mark.parametrize("name", EVERY)
def test_one_stage_is_exact_at_every_size(name):
    generator, discriminator, real, latent, labels = build(EVERY[name], n=2)
    assert osgan.verify(generator, discriminator, "nonsaturating", real, latent, *labels).exact


@pytest.mark.parametrize("name", EVERY)
def test_gradients_reach_every_weight(name):
    """In evaluation mode: BatchNorm in training mode takes the batch's mean away, and with it the bias before it."""
    generator, discriminator, real, latent, labels = build(EVERY[name], torch.float64, n=3)
    for network, given in ((generator, latent(3, "cpu")), (discriminator, real)):
        for parameter in moved(network.eval()).parameters():
            if parameter.ndim == 1:
                parameter.data += 0.5  # so that in networks this narrow not every unit of a layer is off
        result = network(given, *labels)
        (result * torch.randn_like(result)).sum().backward()
        dead = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.norm() > 1e-12]
        assert dead == []


@pytest.mark.parametrize("name", SMALLEST)
def test_r1_differentiates_the_discriminator_twice(name):
    """Hold the penalty's gradient along a random direction against central differences."""
    _, discriminator, real, _, labels = build(SMALLEST[name], torch.float64)
    r1 = R1(gamma=1.0)
    r1.accumulate(discriminator, real, real, labels)  # in training mode, as in a step
    moved(discriminator.eval())
    for parameter in discriminator.parameters():
        parameter.grad = None
    r1.accumulate(discriminator, real, real, labels)
    slopes = {key: p.grad for key, p in discriminator.named_parameters() if p.grad is not None}
    assert slopes
    direction = {key: torch.randn_like(p) for key, p in discriminator.named_parameters()}
    analytic = sum((slope * direction[key]).sum().item() for key, slope in slopes.items())

    def penalty(eps):
        other = copy.deepcopy(discriminator)
        with torch.no_grad():
            for key, parameter in other.named_parameters():
                parameter.add_(eps * direction[key])
        images = real.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(other(images, *labels).sum(), images)
        return gradient.square().flatten(1).sum(1).mean().item() / 2

    assert analytic == pytest.approx((penalty(1e-7) - penalty(-1e-7)) / 2e-7, rel=1e-4)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_label_matters_to_its_own_image_alone(name):
    generator, discriminator, real, latent, (labels,) = build(SMALLEST[name], torch.float64)
    z = latent(4, "cpu")
    other = labels.clone()
    other[1] = (labels[1] + 1) % CLASSES
    for network, given in ((generator, z), (discriminator, real)):
        moved(network.eval())
        difference = (network(given, labels) - network(given, other)).flatten(1 if network is generator else 0)
        moves = difference.abs().amax(1) if network is generator else difference.abs()
        assert moves[1] > 1e-3
        assert moves[[0, 2, 3]].max() == 0


@pytest.mark.parametrize("name", SMALLEST)
def test_copies_and_state_dicts_hold_the_whole_network(name):
    generator, discriminator, real, latent, labels = build(SMALLEST[name])
    z = latent(4, "cpu")
    torch.manual_seed(5)
    fresh = nets.build(SMALLEST[name], channels=2, num_classes=CLASSES)
    for network, given, other in ((generator, z, fresh.generator), (discriminator, real, fresh.discriminator)):
        moved(network)
        again(network, given, *labels)  # moves running statistics and power iterations
        expected = again(network.eval(), given, *labels)
        assert torch.equal(again(copy.deepcopy(network), given, *labels), expected)
        assert not torch.equal(again(other.eval(), given, *labels), expected)
        other.load_state_dict(network.state_dict())
        assert torch.equal(again(other, given, *labels), expected)


@pytest.mark.parametrize("name", SMALLEST)
def test_nothing_waits_for_the_device(name):
    """The meta device has no values: `.item()`, or a branch on a value, raises there."""
    generator, discriminator, real, latent, labels = build(SMALLEST[name])
    labels = tuple(y.to("meta") for y in labels)
    images = generator.to("meta")(latent(4, "meta"), *labels)
    assert images.shape == real.shape or name == "cat"
    discriminator.to("meta")(images, *labels).sum().backward()


@pytest.mark.parametrize("name", SMALLEST)
def test_channels_last_and_bfloat16(name):
    generator, discriminator, real, latent, labels = build(SMALLEST[name])
    z = latent(4, "cpu")
    for network, given in ((generator, z), (discriminator, real.requires_grad_())):
        expected = again(network.eval(), given, *labels)
        given_last = given.to(memory_format=torch.channels_last) if given.ndim == 4 else given
        found = again(copy.deepcopy(network).to(memory_format=torch.channels_last), given_last, *labels)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        # As the engine does: the cache of PyTorch 2.6 keeps weights cast without gradients for a pass that wants them.
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            rough = again(network, given, *labels)
            torch.manual_seed(7)
            result = network(given, *labels)
        assert (rough - expected).norm() <= 0.1 * expected.norm() + 0.05
        assert not torch.equal(rough.float(), expected)  # it did run in bfloat16
        result.float().square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_compiled_network_is_one_graph_and_keeps_its_power_iterations():
    _, eager, real, _, labels = build(SMALLEST["csagan"])
    compiled = copy.deepcopy(eager)
    graph = torch.compile(compiled, fullgraph=True, backend="eager")
    torch.testing.assert_close(graph(real, *labels), eager(real, *labels))
    for (name, mine), (_, its) in zip(compiled.named_buffers(), eager.named_buffers(), strict=True):
        torch.testing.assert_close(mine, its, msg=name)


PUBLISHED = {  # counted on the networks of mimicry and of R3GAN's authors; 10 classes
    "sngan32": (4_276_739, 1_053_825),
    "sngan48": (4_878_083, 10_141_441),
    "sngan64": (12_220_675, 10_141_441),
    "sngan128": (32_150_787, 29_017_857),
    "csngan32": (4_304_387, 1_055_105),
    "csngan128": (32_239_491, 29_028_097),
    "csagan32": (4_386_308, 1_075_586),
    "csagan128": (32_321_412, 29_048_578),
    "r3gan32": (20_732_160, 20_683_776),
    "r3gan64": (22_429_824, 22_381_440),
}


def documented():
    """Read the rows of docs/architectures.md that have a ceiling: name -> [(loss, numbers)]."""
    rows = {}
    for line in (Path(__file__).parents[3] / "docs/architectures.md").read_text(encoding="utf-8").splitlines():
        name, loss, *numbers = (cell.strip("` ") for cell in line.strip("|").split("|")) if "|" in line else ("", "")
        if name in EVERY and len(numbers) == 8:
            rows.setdefault(name, []).append((loss, [float(number) for number in numbers]))
    return rows


@pytest.mark.parametrize("name", EVERY)
def test_built_at_the_papers_width_without_memory(name, monkeypatch):
    if name != "sngan32":  # the fifteen power iterations of every layer are slow on the meta device; once is enough
        monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)
    with torch.device("meta"):
        built = nets.build(name, channels=3, num_classes=10)
    counts = tuple(sum(p.numel() for p in net.parameters()) for net in (built.generator, built.discriminator))
    assert counts == PUBLISHED.get(name, counts)
    for _, (of_generator, of_discriminator, *_) in documented()[name]:
        assert counts == pytest.approx((1e6 * of_generator, 1e6 * of_discriminator), abs=5001)


@pytest.mark.parametrize("name", ["mlp", "dcgan32"])
def test_the_documented_ceilings(name):
    built = nets.build(name, channels=3)
    ((loss, (_, _, gigaflops, *ceilings)),) = documented()[name]
    found = osgan.predict_speedup(built.generator, built.discriminator, loss, torch.randn(2, 3, 32, 32), built.latent)
    assert found.flops["one_stage"] / 2e9 == pytest.approx(gigaflops, rel=0.01)
    others = [found.ceilings[scheme] for scheme in SCHEME_NAMES if scheme != "one_stage"]
    assert others == pytest.approx(ceilings, abs=0.0051)
