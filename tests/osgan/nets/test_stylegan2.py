import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d

from osgan.nets.stylegan2 import MAPPING_LR, ModulatedConvolution, StyledLayer, stylegan2


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_scaling_the_maps_is_scaling_each_images_weights(up, demodulate):
    """Equations 1 and 3 of the paper, an image at a time."""
    layer = ModulatedConvolution(5, 7, 3, 4, up=up, demodulate=demodulate).double()
    x, styles = torch.randn(3, 5, 8, 8, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    expected = []
    for image, style in zip(x, layer.affine(styles), strict=True):
        weight = layer.weight / (5 * 9) ** 0.5 * style[:, None, None]
        if demodulate:
            weight = weight / weight.square().sum((1, 2, 3), keepdim=True).add(1e-8).sqrt()
        if up:
            expected.append(layer.blur(conv_transpose2d(image[None], weight.transpose(0, 1), stride=2)))
        else:
            expected.append(conv2d(image[None], weight, padding=1))
    found = layer(x, styles)
    assert found.shape[2:] == ((16, 16) if up else (8, 8))
    torch.testing.assert_close(found, torch.cat(expected))


def test_styles_start_around_one_and_maps_at_unit_variance():
    layer = StyledLayer(64, 64, 32, up=False, noise=True)
    style = layer.convolution.affine(torch.randn(100, 32))
    assert style.mean().item() == pytest.approx(1, abs=0.1)
    with torch.no_grad():
        x = layer.convolution(torch.randn(8, 64, 16, 16), torch.randn(8, 32))[:, :, 2:-2, 2:-2]
    assert x.std().item() == pytest.approx(1, rel=0.05)


def test_noise_has_a_learned_strength_that_starts_at_zero_and_can_be_left_out():
    options = {"resolution": 16, "width": 8, "latent_dim": 4, "mapping_layers": 1}
    generator, _ = stylegan2(**options)
    strengths = [p for name, p in generator.named_parameters() if name.endswith("noise_strength")]
    assert len(strengths) == 5  # one at 4x4, two at 8x8 and at 16x16
    z = torch.randn(2, 4)
    assert torch.equal(generator(z), generator(z))
    for strength in strengths:
        strength.data.fill_(0.5)
    assert not torch.equal(generator(z), generator(z))
    without, _ = stylegan2(**options, noise=False)
    assert not [name for name, _ in without.named_parameters() if "noise" in name]


def test_equalised_learning_rates():
    generator, discriminator = stylegan2(resolution=16, width=64, latent_dim=64, mapping_layers=2)
    for layer in generator.mapping:
        if isinstance(layer, nn.Linear):
            original = layer.parametrizations.weight.original
            assert original.std().item() == pytest.approx(1 / MAPPING_LR, rel=0.1)
            torch.testing.assert_close(layer.weight, original * MAPPING_LR / 8)
            layer.parametrizations.bias.original.data.fill_(2)
            assert layer.bias.tolist() == pytest.approx([2 * MAPPING_LR] * 64)
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            original = layer.parametrizations.weight.original
            assert original.std().item() == pytest.approx(1, rel=5 / (2 * original.numel()) ** 0.5)  # 5 sigma
            torch.testing.assert_close(layer.weight, original / original[0].numel() ** 0.5)


def test_the_size_of_a_latent_does_not_matter():
    generator, _ = stylegan2(resolution=16, width=8, latent_dim=4, noise=False)
    z = torch.randn(3, 4)
    torch.testing.assert_close(generator(z), generator(5 * z), rtol=1e-4, atol=1e-5)


def test_widths_are_those_of_config_e():
    with torch.device("meta"):
        generator, _ = stylegan2(resolution=128)
    assert [stage.layer.convolution.weight.shape[0] for stage in generator.stages] == [512, 512, 512, 256, 128]
