"""Halving and doubling a map without aliasing: the filter [1, 3, 3, 1] of StyleGAN2 and R3GAN, in plain PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate


class Blur(nn.Module):
    """Low-pass filter every channel by the outer product of [1, 3, 3, 1], normalised to `gain`.

    (N, channels, H, W) -> the same with H and W less 3, plus twice the padding, over the stride.
    """

    kernel: Tensor

    def __init__(self, *, padding: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", gain * torch.outer(taps, taps)[None, None], persistent=False)
        self.padding = padding
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Filter, then keep every `stride`-th place."""
        channels = x.shape[1]
        return conv2d(x, self.kernel.expand(channels, 1, 4, 4), None, self.stride, self.padding, groups=channels)


class Downsample(Blur):
    """(N, channels, H, W) -> (N, channels, H/2, W/2)."""

    def __init__(self) -> None:
        super().__init__(padding=1, stride=2)


class Upsample(nn.Module):
    """(N, channels, H, W) -> (N, channels, 2H, 2W), bilinear: the same filter away from the border."""

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate."""
        return interpolate(x, scale_factor=2.0, mode="bilinear")
