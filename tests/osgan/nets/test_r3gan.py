import pytest
import torch
from torch import nn

from osgan.nets.r3gan import ResidualBlock, r3gan


@pytest.mark.parametrize("network", [0, 1])
def test_fix_up_initialisation(network):
    """Every block starts as the identity; its other two convolutions at He's scale over the fourth root of 8 blocks."""
    blocks = [m for m in r3gan(resolution=32, width=64)[network].modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == 8
    for block in blocks:
        x = torch.randn(2, 64, 4, 4)
        assert torch.equal(block(x), x)
        for layer in (block.expand, block.mix):
            fan_in = layer.weight[0].numel()
            expected = (2 / 1.04 / fan_in) ** 0.5 / 8**0.25
            rel = 5 / (2 * layer.weight.numel()) ** 0.5  # 5 sigma
            assert layer.weight.std().item() == pytest.approx(expected, rel=rel)
            assert not layer.bias.any()


def test_the_authors_widths_and_groups():
    with torch.device("meta"):
        networks = r3gan(resolution=64)
    for network, features in zip(networks, ([768] * 8 + [384] * 2, [384] * 2 + [768] * 8), strict=True):
        blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
        assert [block.expand.in_channels for block in blocks] == features
        assert [block.mix.groups for block in blocks] == [width // 8 for width in features]  # 96 and 48
        assert [block.mix.out_channels for block in blocks] == [2 * width for width in features]


def test_no_norm_and_no_dropout():
    allowed = (nn.Conv2d, nn.Linear, nn.Identity)
    for network in r3gan(resolution=32, width=16):
        leaves = [module for module in network.modules() if not list(module.children())]
        assert {type(leaf).__name__ for leaf in leaves if not isinstance(leaf, allowed)} <= {"Upsample", "Downsample"}


def test_images_and_logits_start_at_unit_scale():
    generator, discriminator = r3gan(resolution=32, width=64)
    with torch.no_grad():
        images = generator(torch.randn(64, 64))
        logits = discriminator(torch.randn(64, 3, 32, 32))
    assert 0.3 < images.std().item() < 2
    assert logits.std().item() < 3
