import pytest
import torch
from torch import nn

import osgan
from osgan.nets.classifiers import CLASSIFIERS, build_classifier
from osgan.nets.dfad import build_generator, dfad


def num_weights(network):
    return sum(p.numel() for p in network.parameters())


# LeNet5: 61,706 with 32x32 inputs (LeCun et al. 1998, all maps connected); the ResNets: torchvision's with a 3x3 stem
WEIGHTS = {"lenet5": 61_706, "lenet5_half": 15_738, "resnet18": 11_173_962, "resnet34": 21_282_122}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_features_and_weights(name):
    channels = 1 if name.startswith("lenet") else 3
    network = build_classifier(name, num_classes=10, channels=channels)
    assert num_weights(network) == WEIGHTS[name]
    network.eval()
    with torch.no_grad():
        images = torch.randn(2, channels, 32, 32)
        logits, features = network.with_features(images)
        assert torch.equal(network(images), logits)
    assert logits.shape == (2, 10)
    last = network.last if name.startswith("lenet") else network.fc
    assert torch.equal(last(features), logits)


def test_resnet_goes_down_eight_times():
    network = build_classifier("resnet18", num_classes=100, channels=1)
    sizes = []
    network.layer4.register_forward_hook(lambda module, given, out: sizes.append(out.shape[-1]))
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 100)
    assert sizes == [4]


def test_options_and_a_builder_of_ones_own():
    assert build_classifier("lenet5+width=2", num_classes=10, channels=1).last.in_features == 168
    ours = build_classifier("distill_reference:Classifier+width=3", num_classes=10, channels=1)
    assert type(ours).__name__ == "Classifier"
    assert ours.body[0].out_channels == 3


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("lenet", "unknown classifier 'lenet'. Did you mean 'lenet5'"),
        ("lenet5+width=0", "width must be a number above 0"),
        ("lenet5+depth=2", "unknown option 'depth'"),
        ("distill_reference:latent_of", "must return an nn.Module, got partial"),
        ("lenet5+num_classes=1", "num_classes must be a whole number above 1"),
    ],
)
def test_mistakes(name, match):
    with pytest.raises(osgan.InputError, match=match):
        build_classifier(name, num_classes=10, channels=1)


@pytest.mark.parametrize(("resolution", "channels"), [(32, 1), (16, 3)])
def test_the_generator_makes_standardised_images(resolution, channels):
    generator = dfad(resolution=resolution, width=4, channels=channels, latent_dim=7)
    images = generator(torch.randn(16, 7))
    assert images.shape == (16, channels, resolution, resolution)
    std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(channels), rtol=0, atol=1e-5)
    torch.testing.assert_close(std, torch.ones(channels), rtol=1e-2, atol=0)
    assert not any(isinstance(p, nn.Parameter) for p in generator.images[-1].parameters())


def test_the_published_generator():
    generator, latent = build_generator("dfad+latent_dim=256", channels=3)
    assert latent(5, "cpu").shape == (5, 256)
    linear, convolutions = 257 * 128 * 64, 9 * (128 * 128 + 128 * 64 + 64 * 3) + 128 + 64 + 3
    assert num_weights(generator) == linear + convolutions + 2 * (128 + 128 + 64)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("dfda", "unknown generator 'dfda'. Did you mean 'dfad'"),
        ("dfad+resolution=30", "divisible by 4"),
        ("dfad+width=0", "width must be a whole number above 0"),
        ("torch.nn:Identity", "integer attribute latent_dim"),
        ("distill_reference:latent_of", "must return an nn.Module"),
    ],
)
def test_generators_that_cannot_be_built(name, match):
    with pytest.raises(osgan.InputError, match=match):
        build_generator(name, channels=1)
