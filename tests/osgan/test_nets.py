import pytest
import torch
from torch import nn

import osgan
from osgan import nets
from osgan.nets.dcgan import dcgan

NORMS = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "none": nn.Identity}


@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
@pytest.mark.parametrize(("channels", "width"), [(1, 4), (3, 8)])
@pytest.mark.parametrize("norm", NORMS)
def test_shapes(resolution, channels, width, norm):
    generator, discriminator = dcgan(resolution=resolution, width=width, channels=channels, latent_dim=10, norm=norm)
    with torch.no_grad():
        images = generator(torch.randn(2, 10))
        assert images.shape == (2, channels, resolution, resolution)
        assert images.abs().max() <= 1
        assert discriminator(images).shape == (2,)


@pytest.mark.parametrize("name", nets.ARCHITECTURES)
def test_named_architectures_have_their_resolution(name):
    size = int(name.removeprefix("dcgan"))
    assert nets.resolution_of(name) == size
    built = nets.build(f"{name}+width=4+latent_dim=12", channels=1)
    assert built.latent == osgan.Gaussian(12)
    with torch.no_grad():
        images = built.generator(built.latent(2, "cpu"))
    assert images.shape == (2, 1, size, size)


def parameters_of_convolutions(*shapes):
    return sum(inputs * outputs * 16 + bias for inputs, outputs, bias in shapes)


def test_parameter_count_of_the_papers_dcgan():
    generator, discriminator = dcgan(resolution=64, width=128)
    up = [(100, 1024, 1024), (1024, 512, 512), (512, 256, 256), (256, 128, 128), (128, 3, 3)]
    down = [(3, 128, 128), (128, 256, 256), (256, 512, 512), (512, 1024, 1024), (1024, 1, 1)]
    norms = 2 * (1024 + 512 + 256 + 128), 2 * (256 + 512 + 1024)
    for network, convolutions, norm in zip((generator, discriminator), (up, down), norms, strict=True):
        count = sum(p.numel() for p in network.parameters())
        assert count == parameters_of_convolutions(*convolutions) + norm


def test_initial_weights():
    for network in dcgan(resolution=32, width=32):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                n = module.weight.numel()
                assert module.weight.std().item() == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)  # 5 sigma
                assert abs(module.weight.mean().item()) <= 5 * 0.02 / n**0.5
                assert module.bias is not None
                assert not module.bias.any()
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                assert (module.weight == 1).all()
                assert not module.bias.any()


@pytest.mark.parametrize("norm", NORMS)
def test_norms_stand_in_the_middle_of_the_discriminator_only(norm):
    _, discriminator = dcgan(resolution=64, width=16, norm=norm)
    layers = list(discriminator)
    convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    after = [type(layers[i + 1]) for i in convolutions[:-1]]
    assert after == [nn.LeakyReLU, NORMS[norm], NORMS[norm], NORMS[norm]]
    assert convolutions[-1] == len(layers) - 1
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    present = {type(layer) for layer in layers} & {nn.BatchNorm2d, nn.GroupNorm}
    assert present == ({NORMS[norm]} - {nn.Identity})


def test_group_norm_has_32_groups_at_the_papers_width_and_never_fewer_than_4_channels_a_group():
    for width, groups in ((128, [32, 32, 32]), (8, [4, 8, 16]), (1, [1, 1, 2])):
        _, discriminator = dcgan(resolution=64, width=width)
        found = [layer for layer in discriminator if isinstance(layer, nn.GroupNorm)]
        assert [layer.num_groups for layer in found] == groups


def test_the_generator_has_batch_norm_everywhere_but_at_its_end():
    generator, _ = dcgan(resolution=64, width=8, norm="none")
    kinds = [type(layer) for layer in generator]
    assert kinds == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU] * 4 + [nn.ConvTranspose2d, nn.Tanh]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("dcgan32+norm=layer", "norm must be one of batch, group, none, got 'layer'"),
        ("dcgan32+norm=[1]", "norm"),
        ("dcgan32+width=0", "width must be a whole number above 0, got 0"),
        ("dcgan32+width=2.5", "width"),
        ("dcgan32+width=wide", "width"),
        ("dcgan32+latent_dim=-1", "latent_dim"),
        ("dcgan32+resolution=24", "resolution must be a power of two from 16 up, got 24"),
        ("dcgan32+resolution=8", "resolution"),
        ("dcgan32+resolution=big", "resolution"),
        ("dcgan32+resolution=32.5", "resolution"),
        ("dcgan32+depth=3", "unknown option 'depth'.*width"),
        ("dcgan23", r"unknown architecture 'dcgan23'\. Did you mean 'dcgan"),
        ("no_such_module:build", "cannot import 'no_such_module'"),
        ("reference:no_such_builder", "has no 'no_such_builder'"),
    ],
)
def test_what_cannot_be_built(architecture, message):
    with pytest.raises(osgan.InputError, match=message):
        nets.build(architecture, channels=3)


def test_channels_are_checked():
    with pytest.raises(osgan.InputError, match="channels must be a whole number above 0, got 0"):
        nets.build("dcgan32", channels=0)


class WithoutLatentDim(nn.Linear):
    pass


RETURNED = {
    "one": lambda: nn.Linear(1, 1),
    "list": lambda: [nn.Linear(1, 1), nn.Linear(1, 1)],
    "single": lambda: (nn.Linear(1, 1),),
    "empty": lambda: (),
    "four": lambda: (nn.Linear(1, 1), nn.Linear(1, 1), osgan.Gaussian(1), 3),
    "functions": lambda: (print, print),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_a_builder_must_return_two_modules(kind, monkeypatch):
    monkeypatch.setitem(nets.ARCHITECTURES, kind, RETURNED[kind])
    with pytest.raises(osgan.InputError, match=r"must return .*generator, discriminator"):
        nets.build(kind, channels=1)


def test_a_users_builder(monkeypatch):
    seen = {}

    def build(channels, resolution, num_classes, depth=1):
        seen.update(channels=channels, resolution=resolution, num_classes=num_classes, depth=depth)
        return WithoutLatentDim(1, 1), nn.Linear(1, 1), torch.zeros

    monkeypatch.setitem(nets.ARCHITECTURES, "mine", build)
    built = nets.build("mine+depth=3+resolution=48", channels=2, num_classes=10)
    assert seen == {"channels": 2, "resolution": 48, "num_classes": 10, "depth": 3}
    assert built.latent is torch.zeros
    assert nets.resolution_of("mine") == 32


def test_latents_must_be_known(monkeypatch):
    monkeypatch.setitem(nets.ARCHITECTURES, "mine", lambda: (WithoutLatentDim(1, 1), nn.Linear(1, 1)))
    with pytest.raises(osgan.InputError, match="latent_dim"):
        nets.build("mine", channels=1)
