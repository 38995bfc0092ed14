"""A checkout of a few lines of our own, in the shape of HiFi-GAN's files."""

FILES = {
    "config_v3.json": (
        '{"n_fft": 256, "num_mels": 8, "sampling_rate": 22050, "hop_size": 64, "win_size": 256, "fmin": 0,'
        ' "fmax": 8000, "fmax_for_loss": null, "upsample_rates": [64]}'
    ),
    "env.py": "class AttrDict(dict):\n    def __getattr__(self, name):\n        return self[name]\n",
    "meldataset.py": """
import torch
from librosa.filters import mel as librosa_mel_fn

def mel_spectrogram(y, n_fft, num_mels, sampling_rate, hop_size, win_size, fmin, fmax):
    basis = torch.from_numpy(librosa_mel_fn(sampling_rate, n_fft, num_mels, fmin, fmax)).float()
    y = torch.nn.functional.pad(y, ((n_fft - hop_size) // 2,) * 2)
    pairs = torch.stft(y, n_fft, hop_length=hop_size, win_length=win_size, window=torch.hann_window(win_size),
                       center=False)
    return torch.log((basis @ torch.sqrt(pairs.pow(2).sum(-1) + 1e-9)).clamp(min=1e-5))
""",
    "models.py": """
import torch
from torch import nn

class Generator(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(h.num_mels, h.upsample_initial_channel, 3, padding=1), nn.LeakyReLU(0.1),
            nn.ConvTranspose1d(h.upsample_initial_channel, 1, 64, 64), nn.Tanh(),
        )
    def forward(self, x):
        return self.layers(x)

class D(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv1d(1, 4, 16, 8), nn.Conv1d(4, 1, 3)
    def one(self, x):
        h = torch.nn.functional.leaky_relu(self.first(x), 0.1)
        return self.last(h).flatten(1), [h]
    def forward(self, y, y_hat):
        (real, maps), (fake, fake_maps) = self.one(y), self.one(y_hat)
        return [real], [fake], [maps], [fake_maps]

class MultiPeriodDiscriminator(D):
    pass

class MultiScaleDiscriminator(D):
    pass

def feature_loss(real, fake):
    return 2 * sum((a - b).abs().mean() for rs, fs in zip(real, fake) for a, b in zip(rs, fs))

def discriminator_loss(real, fake):
    loss = sum(((1 - r) ** 2).mean() + (f ** 2).mean() for r, f in zip(real, fake))
    return loss, [loss.item()], []

def generator_loss(fake):
    return sum(((1 - f) ** 2).mean() for f in fake), []
""",
    "train.py": """
import os
import torch
import torch.nn.functional as F
from torch.utils.tensorboard import SummaryWriter
from env import AttrDict
from meldataset import mel_spectrogram
from models import Generator, MultiPeriodDiscriminator, MultiScaleDiscriminator, feature_loss, generator_loss, \\
    discriminator_loss

def train(rank, a, h):
    device = torch.device(f"cuda:{rank}")
    generator = Generator(h).to(device)
    mpd = MultiPeriodDiscriminator().to(device)
    msd = MultiScaleDiscriminator().to(device)
    assert os.path.isdir(a.checkpoint_path)
    optim_g = torch.optim.AdamW(generator.parameters())
    optim_d = torch.optim.AdamW([*msd.parameters(), *mpd.parameters()])
    train_loader = []
    if rank == 0:
        sw = SummaryWriter("logs")
    for epoch in range(a.training_epochs):
        for i, batch in enumerate(train_loader):
            given, sound, _, wanted = batch
            real = sound.to(device)[:, None]
            fake = generator(given)
            mel = mel_spectrogram(fake.squeeze(1), h.n_fft, h.num_mels, h.sampling_rate, h.hop_size, h.win_size,
                                  h.fmin, h.fmax_for_loss)
            optim_d.zero_grad()
            loss = 0
            for D in (mpd, msd):
                reals, fakes, _, _ = D(real, fake.detach())
                loss = loss + discriminator_loss(reals, fakes)[0]
            loss.backward()
            optim_d.step()
            optim_g.zero_grad()
            loss = F.l1_loss(wanted, mel) * 45
            for D in (mpd, msd):
                _, fakes, maps, fake_maps = D(real, fake)
                loss = loss + feature_loss(maps, fake_maps) + generator_loss(fakes)[0]
            loss.backward()
            optim_g.step()
            if rank == 0:
                raise AssertionError("the log is off")
""",
}
