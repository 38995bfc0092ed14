import pytest
import torch
from torch.nn.functional import max_pool2d

from osgan.nets.sagan import SelfAttention, sagan


@pytest.mark.parametrize("resolution", [32, 48, 64, 128])
def test_attention_stands_where_the_map_is_a_quarter_of_the_image(resolution):
    networks = sagan(resolution=resolution, width=2, latent_dim=3)
    for network, given in zip(networks, (torch.randn(1, 3), torch.randn(1, 3, resolution, resolution)), strict=True):
        (attention,) = (module for module in network.modules() if isinstance(module, SelfAttention))
        seen = []
        attention.register_forward_hook(lambda _, x, y, seen=seen: seen.append((x[0], y)))
        with torch.no_grad():
            network.eval()(given)
        ((before, after),) = seen
        assert before.shape[2:] == (resolution // 4, resolution // 4)
        assert torch.equal(before, after)  # the gain starts at 0
        assert attention.gamma.item() == 0


def test_every_place_attends_to_every_cell():
    attention = SelfAttention(16).double().eval()
    attention.gamma.data.fill_(0.7)
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    query, key, value = attention.query(x), max_pool2d(attention.key(x), 2), max_pool2d(attention.value(x), 2)
    assert query.shape[1] == key.shape[1] == 2
    assert value.shape[1] == 8
    attended = torch.zeros(2, 8, 4, 6, dtype=torch.float64)
    for n in range(2):
        for i in range(4):
            for j in range(6):
                weights = torch.softmax(torch.einsum("c,chw->hw", query[n, :, i, j], key[n]).flatten(), 0)
                attended[n, :, i, j] = (value[n].flatten(1) * weights).sum(1)
    torch.testing.assert_close(attention(x), x + 0.7 * attention.output(attended))
