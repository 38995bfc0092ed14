import pytest
import torch

from osgan.nets.resampling import Blur, Downsample, Upsample

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8


def impulse(size, place):
    x = torch.zeros(1, 2, size, size, dtype=torch.float64)
    x[:, :, place, place] = 1
    return x


def test_an_impulse_comes_out_as_the_filter():
    found = Blur(padding=2, gain=4.0).double()(impulse(8, 4))
    assert found.shape == (1, 2, 9, 9)
    for channel in range(2):
        torch.testing.assert_close(found[0, channel, 3:7, 3:7], 4 * torch.outer(TAPS, TAPS))
    assert found.sum().item() == pytest.approx(2 * 4)


def test_halving_keeps_a_constant_and_removes_what_it_cannot_hold():
    halve = Downsample().double()
    assert halve(torch.ones(1, 3, 8, 8, dtype=torch.float64))[:, :, 1:-1, 1:-1].allclose(torch.ones(()).double())
    chequered = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)
    assert halve((chequered[:, None] * chequered).expand(1, 1, 8, 8))[:, :, 1:-1, 1:-1].abs().max() < 1e-12
    assert halve(torch.randn(2, 3, 8, 8).double()).shape == (2, 3, 4, 4)


def test_doubling_is_the_same_filter_away_from_the_border():
    found = Upsample()(impulse(8, 4))
    assert found.shape == (1, 2, 16, 16)
    torch.testing.assert_close(found[0, 0, 7:11, 7:11], 4 * torch.outer(TAPS, TAPS))
    assert Upsample()(torch.ones(1, 1, 4, 4)).eq(1).all()  # to the border: no padding with zeros


def test_the_filter_is_no_weight():
    assert not list(Downsample().parameters())
    assert not Downsample().state_dict()
