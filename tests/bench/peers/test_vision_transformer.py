import pytest
import torch

from bench.peers.gat import paired, repeated
from bench.peers.vision_transformer import Attention, Mlp, PatchEmbed
from osgan.errors import InputError


def test_patches_are_embedded_row_by_row():
    embed = PatchEmbed(4, 2, 3, 5)
    images = torch.randn(2, 3, 4, 4)
    tokens = embed(images)
    assert tokens.shape == (2, embed.num_patches, 5) == (2, 4, 5)
    assert embed.patch_size == (2, 2)
    alone = torch.nn.functional.conv2d(images[:, :, :2, 2:], embed.proj.weight, embed.proj.bias)  # the upper right one
    assert torch.allclose(tokens[:, 1], alone[:, :, 0, 0], atol=1e-6)


def test_heads_look_at_their_own_channels():
    attention = Attention(6, num_heads=2, qkv_bias=True).double()
    tokens = torch.randn(3, 4, 6, dtype=torch.float64)
    q, k, v = attention.qkv(tokens).chunk(3, dim=-1)
    parts = []
    for channels in (slice(0, 3), slice(3, 6)):
        scores = q[..., channels] @ k[..., channels].mT / 3**0.5
        parts.append(scores.softmax(-1) @ v[..., channels])
    assert torch.allclose(attention(tokens), attention.proj(torch.cat(parts, -1)), atol=1e-10)


def test_tokens_do_not_meet_in_an_mlp():
    mlp = Mlp(3, 7, torch.nn.SiLU, 0)
    tokens = torch.randn(2, 5, 3)
    assert torch.allclose(mlp(tokens)[:, 2], mlp(tokens[:, 2]), atol=1e-6)
    assert mlp.fc1.out_features == 7


def test_numbers_are_paired_and_repeated_as_the_words_say():
    numbers = torch.arange(4.0).expand(2, 4)
    pairs = paired(numbers, "... (d r) -> ... d r", r=2)
    assert pairs[1].tolist() == [[0, 1], [2, 3]]
    assert torch.equal(paired(pairs, "... d r -> ... (d r)"), numbers)
    assert repeated(numbers, "... n -> ... (n r)", r=2)[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(InputError, match=r"einops\.rearrange is asked for 'a b -> b a'.*pip install einops"):
        paired(numbers, "a b -> b a")
    with pytest.raises(InputError, match=r"einops\.repeat is asked for 'a -> a 2'.*pip install einops"):
        repeated(numbers, "a -> a 2", r=2)
