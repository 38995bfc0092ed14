"""HiFi-GAN (jik876/hifi-gan): sound from mel spectrograms, eight discriminators, feature matching.

What comes before the loop over epochs of its `train` is executed once for each arm, its loop over batches is compiled
as it stands and executed with a loader of so many batches.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import l1_loss

import osgan
from bench.peers.imports import Overridden, function, importing, load_script, needed, split, stand_in
from bench.peers.peer import Changes, LoopCase, OurSteps, Peer, Players, Settings
from osgan.errors import InputError

CONFIG = "config_v3.json"
NAMES = ("generator", "mpd", "msd", "optim_g", "optim_d")
FUNCTIONS = ("mel_spectrogram", "feature_loss", "generator_loss", "discriminator_loss", "AttrDict")
NUM_BATCHES = 4
MEL_WEIGHT = 45


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[LoopCase]:
    """Return the one case: config_v3 with `width` channels after G's first layer and segments of `resolution`."""
    why = "only plots and logs use it"
    stand_in({"librosa": ["librosa"]}, changes, "its mel filters are computed here")
    stand_in({"matplotlib": ["matplotlib"]}, changes, why)
    stand_in({"tensorboard": ["tensorboard", "torch.utils.tensorboard"]}, changes, why)
    file = path / "train.py"
    module = load_script(file, path, changes)
    theirs = {name: needed(module, name, file) for name in FUNCTIONS}
    _mend(theirs["mel_spectrogram"], settings.device, changes)
    config = _config(path / CONFIG, settings)
    set_up, over_batches, _ = split(file, function(file, "train").body, "train_loader")
    training = path / "LJSpeech-1.1" / "training.txt"
    options = argparse.Namespace(
        checkpoint_path="checkpoints",
        input_training_file=str(training),
        input_validation_file=str(training),
        input_wavs_dir="",
        input_mels_dir="",
        fine_tuning=False,
        training_epochs=1,
        stdout_interval=1,
    )
    Path(options.checkpoint_path).mkdir(exist_ok=True)
    changes.patch("The loop over batches is executed with batches on the device in place of its loader.")
    changes.patch(f"{CONFIG} is read with the segment size, batch size and width that are asked for.")
    changes.patch("It runs as a process of rank 1: no prints, logs, checkpoints and validation; that favours it.")
    changes.remark("The sound is synthetic: a few harmonics and noise, and its mel spectrogram by their function.")
    changes.remark("Its discriminator_loss, which ours calls too, waits for the device with .item() twice for each D.")
    changes.remark("In G's update its loop computes D's weight gradients and throws them away; D is not frozen.")

    def build() -> Players:
        names = vars(module) | {"a": options, "h": theirs["AttrDict"](config), "rank": 1}
        names["torch"] = Overridden(torch, device=lambda _: settings.device)
        with importing(file):
            exec(set_up, names)
        if missing := [name for name in NAMES if name not in names]:
            raise InputError(f"{file}: `train` defines no {', '.join(missing)} before its loop")
        players = nn.ModuleList([names["mpd"], names["msd"]])
        for network in (names["generator"], *players):
            network.train()
        return Players(names["generator"], players, names["optim_g"], names["optim_d"], names)

    def loop(players: Players, batches: Any) -> None:
        names = players.whole
        names |= {"optim_g": players.generator_optimizer, "optim_d": players.discriminator_optimizer}
        names["train_loader"] = batches
        exec(over_batches, names)

    def mel(sound: Tensor) -> Tensor:
        shape = (config[name] for name in ("n_fft", "num_mels", "sampling_rate", "hop_size", "win_size", "fmin"))
        return theirs["mel_spectrogram"](sound, *shape, config["fmax_for_loss"])

    def d_and_g_loss(players: Players, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        of_D, of_G = [], []
        for D in players.discriminator.children():
            real_logits, fake_logits, real_maps, fake_maps = D(real, fake)
            of_D.append(theirs["discriminator_loss"](real_logits, fake_logits)[0])
            of_G.append(theirs["generator_loss"](fake_logits)[0] + theirs["feature_loss"](real_maps, fake_maps))
        return sum(of_D), sum(of_G)

    def off_mel(fake: Tensor, real_mel: Tensor) -> Tensor:
        return MEL_WEIGHT * l1_loss(real_mel, mel(fake.squeeze(1)))

    def ours(players: Players, batches: Any) -> None:
        for given_mel, sound, _, real_mel in batches:
            players.zero_grad()
            fake = players.generator(given_mel)
            leaf = osgan.tap(fake)
            d_loss, g_loss = d_and_g_loss(players, sound.unsqueeze(1), leaf)
            osgan.backward(leaf, d_loss, g_loss, extra=off_mel(fake, real_mel))
            players.update()

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        given_mel, sound, _, real_mel = batch
        fake = players.generator(given_mel)
        d_loss, _ = d_and_g_loss(players, sound.unsqueeze(1), fake.detach())
        _, g_loss = d_and_g_loss(players, sound.unsqueeze(1), fake)
        return d_loss, g_loss + off_mel(fake, real_mel)

    def batch(seed: int) -> tuple[Tensor, Tensor, list[str], Tensor]:
        sound = _sound(settings, config["sampling_rate"], seed)
        of_input = (config[name] for name in ("n_fft", "num_mels", "sampling_rate", "hop_size", "win_size", "fmin"))
        return theirs["mel_spectrogram"](sound, *of_input, config["fmax"]), sound, [], mel(sound)

    case = LoopCase(
        name="HiFi-GAN V3",
        loss="LSGAN, feature matching, L1 of mel spectrograms",
        batch_size=settings.batch_size,
        about={
            "architecture": CONFIG,
            "items": "segments",
            "segment": f"{settings.resolution} samples",
            "width": f"{settings.width} (G's; D's are fixed)",
        },
        file="train.py",
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, two backward passes through D")},
        losses=losses,
        batches=[batch(seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )
    return [case]


def _mend(mel_spectrogram: Any, device: torch.device, changes: Changes) -> None:
    """Give the function what today's libraries no longer do."""
    names = mel_spectrogram.__globals__

    def stft(*arguments: Any, **options: Any) -> Tensor:
        return torch.view_as_real(torch.stft(*arguments, **(options | {"return_complex": True})))

    names["torch"] = Overridden(torch, stft=stft)
    changes.patch("torch.stft returns pairs of real numbers, as it did when meldataset.py was written.")
    names["librosa_mel_fn"] = mel_filters
    changes.patch("librosa's mel filters, whose arguments had no names then, are computed here by the same formula.")


def mel_filters(rate: int, n_fft: int, num_mels: int, fmin: float, fmax: float | None) -> NDArray[np.float32]:
    """Return triangular filters (num_mels, n_fft / 2 + 1) of unit area on Slaney's mel scale."""
    lowest, highest = _mel_of_hz(np.array([fmin, fmax or rate / 2], dtype=np.float64))
    corners = _hz_of_mel(np.linspace(lowest, highest, num_mels + 2))
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    widths = np.diff(corners)[:, None]
    rising = (bins - corners[:-2, None]) / widths[:-1]
    falling = (corners[2:, None] - bins) / widths[1:]
    areas = (corners[2:] - corners[:-2])[:, None] / 2
    return (np.maximum(0, np.minimum(rising, falling)) / areas).astype(np.float32)


LINEAR_HZ = 200 / 3
"""Of a mel, below 1 kHz."""
LOG_STEP = math.log(6.4) / 27
"""Of the logarithm of the frequency a mel, above."""


def _mel_of_hz(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(hz < 1000, hz / LINEAR_HZ, 15 + np.log(np.maximum(hz, 1000) / 1000) / LOG_STEP)


def _hz_of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * LINEAR_HZ, 1000 * np.exp((np.maximum(mel, 15) - 15) * LOG_STEP))


def _sound(settings: Settings, rate: int, seed: int) -> Tensor:
    """Return segments (N, samples) within [-0.95, 0.95]: four harmonics of a pitch each, and noise."""
    generator = torch.Generator().manual_seed(seed)
    pitch = 100 + 200 * torch.rand(settings.batch_size, 1, 1, generator=generator)
    harmonics = torch.arange(1, 5).view(1, -1, 1)
    seconds = torch.arange(settings.resolution) / rate
    tones = (torch.sin(2 * math.pi * pitch * harmonics * seconds) / harmonics).sum(1)
    noisy = tones + 0.05 * torch.randn(tones.shape, generator=generator)
    return (0.95 * noisy / noisy.abs().amax(1, keepdim=True)).to(settings.device)


def _config(file: Path, settings: Settings) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; the adapter needs this file of the checkout") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    wanted = ("n_fft", "num_mels", "sampling_rate", "hop_size", "win_size", "fmin", "fmax", "fmax_for_loss")
    if missing := [name for name in (*wanted, "upsample_rates") if name not in config]:
        raise InputError(f"{file} lacks {', '.join(missing)}, which the adapter looks for")
    config |= {"segment_size": settings.resolution, "batch_size": settings.batch_size, "num_gpus": 0}
    return config | {"upsample_initial_channel": settings.width}


PEER = Peer(
    key="hifi-gan",
    title="HiFi-GAN",
    url="https://github.com/jik876/hifi-gan",
    recognised_by=("meldataset.py", "models.py", CONFIG),
    batch_size=16,
    width=256,
    resolutions=(8192, 4096, 2048),
    cpu_batch_size=1,
    cpu_resolution=2048,
    open=open_checkout,
)
