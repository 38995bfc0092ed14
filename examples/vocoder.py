"""A vocoder after HiFi-GAN (Kong et al. 2020): mel spectrograms to sound, judged at several periods and scales.

Each D scores a sound at many places, G's loss compares the features of every layer of every D, and a spectrogram loss
goes past D. One backward pass through D cannot serve both players here, so `osgan.backward` sends each player's through
D on its own, from the one forward pass: exact for any D and any loss.

The authors' loop has D look at both sounds again for G's loss, and computes gradients of D's weights that it throws
away. In FLOPs, at the sizes below, it takes 1.46 of ours; with D frozen and the features of real sound taken without a
graph, 1.19 of ours. With the authors' own networks (V1) the same ratios come out: 1.48 and 1.19.

    python -m examples.vocoder --figure vocoder.png
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.nn.utils.parametrizations import weight_norm

import osgan
from examples.compare import compare

RATE, FFT, HOP, BANDS = 8000, 256, 64, 40
MEL_WEIGHT, MATCHING_WEIGHT = 45.0, 2.0  # of the spectrogram and the feature matching losses in G's

Features = list[list[Tensor]]
"""What each layer of each D returns; the last layer's are the scores."""


def speak(clips: int, samples: int, seed: int = 0) -> Tensor:
    """Return sounds (clips, 1, samples) in [-1, 1]: a moving pitch, loud near moving formants, and hiss."""
    rng = torch.Generator().manual_seed(seed)

    def contour(low: float, high: float, points: int) -> Tensor:
        values = low + (high - low) * torch.rand(clips, 1, points, generator=rng)
        return F.interpolate(values, samples, mode="linear", align_corners=True)

    pitch = contour(math.log(90), math.log(280), 6).exp()
    formants = [contour(300, 800, 10), contour(900, 2200, 10), contour(2300, 3300, 10)]
    phase = 2 * math.pi * (pitch / RATE).cumsum(-1)
    voice = torch.zeros(clips, 1, samples)
    for harmonic in range(1, RATE // 180):
        heard = harmonic * pitch
        gain = sum(1 / (1 + ((heard - formant) / 120) ** 2) for formant in formants) * (heard < RATE / 2)
        voice += gain / harmonic**0.5 * torch.sin(harmonic * phase)
    hiss = torch.randn(clips, 1, samples + 1, generator=rng).diff()  # white noise, its low part taken out
    voiced, hissing = (torch.sigmoid(contour(-8, 8, points)) for points in (8, 16))
    sound = voiced * voice + 0.3 * (1 - voiced) * hissing * hiss
    return 0.8 * sound / sound.abs().amax(-1, keepdim=True)


class Mel(nn.Module):
    """Sounds (N, 1, T) to log mel spectrograms (N, BANDS, T / HOP)."""

    def __init__(self) -> None:
        super().__init__()
        top = 2595 * math.log10(1 + RATE / 2 / 700)
        edges = 700 * (10 ** (torch.linspace(0, top, BANDS + 2) / 2595) - 1)
        left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        frequency = torch.linspace(0, RATE / 2, FFT // 2 + 1)
        triangles = torch.minimum((frequency - left) / (centre - left), (right - frequency) / (right - centre))
        self.register_buffer("triangles", triangles.clamp_min(0))
        self.register_buffer("window", torch.hann_window(FFT))

    def forward(self, sound: Tensor) -> Tensor:
        """Return log mel spectrograms."""
        padded = F.pad(sound, ((FFT - HOP) // 2,) * 2, "reflect").squeeze(1)
        spectrum = torch.stft(padded, FFT, HOP, window=self.window, center=False, return_complex=True)
        magnitude = (spectrum.real**2 + spectrum.imag**2 + 1e-9).sqrt()
        return (self.triangles @ magnitude).clamp_min(1e-5).log()


class Residual(nn.Module):
    """Dilated convolutions, each added to what it was given."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding="same")) for d in (1, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        for layer in self.layers:
            x = x + layer(F.leaky_relu(x, 0.1))
        return x


class Generator(nn.Module):
    """Mel spectrograms to sound: transposed convolutions, after each the mean of residual blocks of several kernels."""

    def __init__(self, width: int, rates: tuple[int, ...] = (8, 8)) -> None:
        super().__init__()
        assert math.prod(rates) == HOP
        self.first = weight_norm(nn.Conv1d(BANDS, width, 7, padding=3))
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate in rates:
            self.ups.append(weight_norm(nn.ConvTranspose1d(width, width // 2, 2 * rate, rate, padding=rate // 2)))
            width //= 2
            self.blocks.append(nn.ModuleList(Residual(width, kernel) for kernel in (3, 7)))
        self.last = weight_norm(nn.Conv1d(width, 1, 7, padding=3))

    def forward(self, mel: Tensor) -> Tensor:
        """Return sounds (N, 1, T)."""
        x = self.first(mel)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            x = sum(block(x) for block in blocks) / len(blocks)
        return torch.tanh(self.last(F.leaky_relu(x, 0.1)))


class PeriodD(nn.Module):
    """Looks at a sound in rows of `period` samples, along the columns only."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 2 * width, 4 * width)
        strided = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList(map(weight_norm, [*strided, nn.Conv2d(4 * width, 1, (3, 1), padding=(1, 0))]))

    def forward(self, sound: Tensor) -> list[Tensor]:
        """Return what every layer finds."""
        whole_rows = F.pad(sound, (0, -sound.shape[-1] % self.period), "reflect")
        return cascade(self.layers, whole_rows.unflatten(-1, (-1, self.period)))


class ScaleD(nn.Module):
    """Looks at a sound averaged over `scale` samples."""

    def __init__(self, scale: int, width: int) -> None:
        super().__init__()
        self.scale = scale
        first, last = nn.Conv1d(1, width, 15, padding=7), nn.Conv1d(4 * width, 1, 3, padding=1)
        strided = [nn.Conv1d(width * k, 2 * width * k, 41, 4, 20, groups=4 * k) for k in (1, 2)]
        self.layers = nn.ModuleList(map(weight_norm, [first, *strided, last]))

    def forward(self, sound: Tensor) -> list[Tensor]:
        """Return what every layer finds."""
        return cascade(self.layers, F.avg_pool1d(sound, self.scale))


def cascade(layers: nn.ModuleList, x: Tensor) -> list[Tensor]:
    found = []
    for layer in layers[:-1]:
        x = F.leaky_relu(layer(x), 0.1)
        found.append(x)
    return [*found, layers[-1](x)]


def d_loss(real: Features, fake: Features) -> Tensor:
    return sum(((1 - r[-1]) ** 2).mean() + (f[-1] ** 2).mean() for r, f in zip(real, fake, strict=True))


def g_loss(real: Features, fake: Features) -> Tensor:
    adversarial = sum(((1 - f[-1]) ** 2).mean() for f in fake)
    matching = sum(l1_loss(b, a) for r, f in zip(real, fake, strict=True) for a, b in zip(r, f, strict=True))
    return adversarial + MATCHING_WEIGHT * matching


class Game:
    """The vocoder G and eight Ds; each scheme is a method that takes one step."""

    schemes = ("two_stage", "two_stage_reused_frozen", "simultaneous")
    not_exact = "every D gives many scores a sound, and feature matching reaches G from the inner layers of D"

    def __init__(
        self, seed: int = 0, batch_size: int = 8, segment: int = 2048, clips: int = 40, width: int = 64
    ) -> None:
        torch.manual_seed(seed)
        self.batch_size, self.segment = batch_size, segment
        self.sounds, self.test_sounds = speak(clips + 8, 4 * segment).split([clips, 8])
        self.mel = Mel()
        self.G = Generator(width)
        of_periods = [PeriodD(period, width // 4) for period in (2, 3, 5, 7, 11)]
        self.D = nn.ModuleList([*of_periods, *(ScaleD(scale, width // 4) for scale in (1, 2, 4))])
        self.G_optimizer = torch.optim.AdamW(self.G.parameters(), 1e-3, (0.8, 0.99))
        self.D_optimizer = torch.optim.AdamW(self.D.parameters(), 2e-4, (0.8, 0.99))

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Return what holds the weights of either player."""
        return self.G, self.D

    def draw(self) -> Tensor:
        """Return pieces of the clips, (N, 1, segment)."""
        clips = torch.randint(len(self.sounds), (self.batch_size,)).tolist()
        starts = torch.randint(self.sounds.shape[-1] - self.segment, (self.batch_size,)).tolist()
        pieces = [self.sounds[clip, :, start : start + self.segment] for clip, start in zip(clips, starts, strict=True)]
        return torch.stack(pieces).to(self.mel.window.device)

    def look(self, sound: Tensor) -> Features:
        """Return what every layer of every D finds in sounds."""
        return [D(sound) for D in self.D]

    def fill(self, sound: Tensor) -> None:
        """Add both players' gradients to .grad: every network forward once, G backward once."""
        mel = self.mel(sound)
        made = self.G(mel)
        leaf = osgan.tap(made)
        real, fake = self.look(sound), self.look(leaf)
        targets = [[found.detach() for found in of_one] for of_one in real]
        past_d = MEL_WEIGHT * l1_loss(self.mel(made), mel)
        osgan.backward(leaf, d_loss(real, fake), g_loss(targets, fake), extra=past_d)

    def simultaneous(self) -> None:
        """Both players' gradients from the one forward pass."""
        self.G_optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(self.draw())
        self.D_optimizer.step()
        self.G_optimizer.step()

    def two_stage(self, frozen: bool = False) -> None:
        """The authors' loop: D moves, then looks at both sounds again; its gradients of G's loss are thrown away."""
        sound = self.draw()
        mel = self.mel(sound)
        made = self.G(mel)
        self.D_optimizer.zero_grad()
        d_loss(self.look(sound), self.look(made.detach())).backward()
        self.D_optimizer.step()
        self.G_optimizer.zero_grad()
        self.D.requires_grad_(not frozen)
        past_d = MEL_WEIGHT * l1_loss(self.mel(made), mel)
        (g_loss(self.look(sound), self.look(made)) + past_d).backward()
        self.D.requires_grad_(True)
        self.G_optimizer.step()

    def two_stage_reused_frozen(self) -> None:
        """The authors' loop with D frozen for G's loss, so that the features of real sound have no graph either."""
        self.two_stage(frozen=True)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return the spectrogram's error on held-out sounds, and both players' losses there."""
        sound = self.test_sounds.to(self.mel.window.device)
        mel = self.mel(sound)
        made = self.G(mel)
        real, fake = self.look(sound), self.look(made)
        return {
            "mel error, held out": l1_loss(self.mel(made), mel).item(),
            "D's loss": d_loss(real, fake).item(),
            "G's loss through D": g_loss(real, fake).item(),
        }


if __name__ == "__main__":
    compare(Game, "Vocoder: mel spectrograms to sound", steps=96)
