import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from osgan.nets.sagan import csagan, sagan
from osgan.nets.sngan import ConditionalBatchNorm2d, csngan, sngan

WEIGHTED = (nn.Conv2d, nn.Linear, nn.Embedding)
FEATURES = {  # maps of G and D, (size, channels), at a width of 64: tables 3 to 5 of the paper, 64 as in its code
    32: ([(4, 256), (8, 256), (16, 256), (32, 256)], [(16, 128), (8, 128), (8, 128), (8, 128)]),
    48: ([(6, 512), (12, 256), (24, 128), (48, 64)], [(24, 64), (12, 128), (6, 256), (3, 512), (3, 1024)]),
    64: ([(4, 1024), (8, 512), (16, 256), (32, 128), (64, 64)], [(32, 64), (16, 128), (8, 256), (4, 512), (2, 1024)]),
    128: (
        [(4, 1024), (8, 1024), (16, 512), (32, 256), (64, 128), (128, 64)],
        [(64, 64), (32, 128), (16, 256), (8, 512), (4, 1024), (4, 1024)],
    ),
}


@pytest.mark.parametrize("resolution", FEATURES)
def test_maps_are_the_papers(resolution):
    generator, discriminator = sngan(resolution=resolution, width=2, latent_dim=3)
    found = [(generator.smallest[1], generator.smallest[0] * 32)]
    for block in [*generator.blocks, *discriminator.blocks]:
        block.register_forward_hook(lambda _, __, y: found.append((y.shape[2], y.shape[1] * 32)))
    with torch.no_grad():
        discriminator(generator(torch.randn(2, 3)))
    of_generator, of_discriminator = FEATURES[resolution]
    assert found == of_generator + of_discriminator


@pytest.mark.parametrize(("build", "on_generator"), [(sngan, False), (csngan, False), (sagan, True), (csagan, True)])
def test_spectral_norm_stands_on_every_layer_of_the_discriminator(build, on_generator):
    classes = {"num_classes": 3} if build in (csngan, csagan) else {}
    generator, discriminator = build(resolution=32, width=2, latent_dim=3, **classes)
    layers = [module for module in discriminator.modules() if isinstance(module, WEIGHTED)]
    assert len(layers) == 13 - 2 + bool(classes) + 4 * on_generator  # 4 blocks, 2 with a shortcut of their own, a head
    assert all(is_parametrized(layer, "weight") for layer in layers)
    layers = [module for module in generator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert {is_parametrized(layer, "weight") for layer in layers} == {on_generator}


def test_spectral_norm_holds_the_largest_singular_value_at_one():
    _, discriminator = csngan(resolution=32, width=2, latent_dim=3, num_classes=4)
    discriminator.double()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(3)
        for _ in range(200):
            discriminator(torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1]))
        for module in discriminator.modules():
            if isinstance(module, WEIGHTED):
                assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-3)


def test_initial_weights():
    generator, _ = sngan(resolution=32, width=8, latent_dim=16)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fans = nn.init._calculate_fan_in_and_fan_out(module.weight)
            gain = 2 if getattr(module, "kernel_size", ()) == (3, 3) and module.out_channels > 3 else 1
            n = module.weight.numel()
            expected = (gain * 2 / sum(fans)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=5 / (2 * n) ** 0.5)  # 5 sigma
            assert not module.bias.any()


def test_conditional_batch_norm_starts_as_batch_norm_and_then_has_a_gain_and_a_bias_for_each_class():
    conditional, plain = ConditionalBatchNorm2d(4, 3), nn.BatchNorm2d(4)
    x, labels = torch.randn(5, 4, 6, 6), torch.tensor([0, 2, 2, 1, 0])
    torch.testing.assert_close(conditional(x, labels), plain(x))
    with torch.no_grad():
        conditional.gain.weight.normal_()
        conditional.bias.weight.normal_()
    gain, bias = conditional.gain.weight[labels], conditional.bias.weight[labels]
    expected = plain(x) * gain[:, :, None, None] + bias[:, :, None, None]
    torch.testing.assert_close(conditional(x, labels), expected)


def test_the_projection_adds_the_product_of_features_and_the_labels_embedding():
    _, discriminator = csngan(resolution=32, width=2, latent_dim=3, num_classes=4)
    discriminator.eval()
    images, labels = torch.randn(3, 3, 32, 32), torch.tensor([3, 0, 1])
    kept = []
    discriminator.head.register_forward_pre_hook(lambda _, x: kept.append(x[0]))
    logits = discriminator(images, labels)
    (features,) = kept
    projection = (features * discriminator.embedding.weight[labels]).sum(1)
    torch.testing.assert_close(logits, discriminator.head(features).flatten() + projection)
    assert projection.abs().min() > 0
