import pytest
import torch
from torch import nn

from osgan.nets.dcgan import cdcgan, dcgan

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


@pytest.mark.parametrize(("width", "groups"), [(100, [25, 25, 32]), (7, [2, 7, 14])])
def test_group_norm_finds_groups_that_divide_any_width(width, groups):
    _, discriminator = dcgan(resolution=64, width=width)
    found = [layer for layer in discriminator if isinstance(layer, nn.GroupNorm)]
    assert [layer.num_groups for layer in found] == groups


def test_the_conditional_pair_reads_an_embedding_beside_the_latent_and_projects_on_one():
    options = {"resolution": 32, "width": 8, "channels": 3, "latent_dim": 6, "num_classes": 5}
    generator, discriminator = cdcgan(**options)
    assert generator.latent_dim == 6
    assert generator.embedding.weight.shape == (5, 6)
    assert generator.layers[0].in_channels == 12
    assert discriminator.embedding.weight.shape == (5, discriminator.head.weight.numel())
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 4, 2, 0])
    with torch.no_grad():
        features = discriminator.features(images)
        heads = discriminator.embedding(labels).reshape(4, *discriminator.head.weight.shape[1:])
        expected = discriminator.head(features).flatten() + (features * heads).sum((1, 2, 3))
        torch.testing.assert_close(discriminator(images, labels), expected)


def test_initial_weights_of_the_conditional_pair():
    generator, discriminator = cdcgan(resolution=32, width=32, num_classes=50)
    for weight, deviation in ((generator.embedding.weight, 1.0), (discriminator.embedding.weight, 0.02)):
        assert weight.std().item() == pytest.approx(deviation, rel=5 / (2 * weight.numel()) ** 0.5)  # 5 sigma
