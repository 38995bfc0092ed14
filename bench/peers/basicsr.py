"""BasicSR (XPixelGroup/BasicSR): ESRGAN and Real-ESRGAN, each by its own model class and option file."""

import copy
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

import osgan
from bench.peers.imports import importing, needed, search, stand_in, stay_on_cpu
from bench.peers.peer import Changes, LoopCase, OurSteps, Peer, Players, Settings
from osgan.errors import InputError

OPTIONS = {
    "ESRGAN": "options/train/ESRGAN/train_ESRGAN_x4.yml",
    "Real-ESRGAN": "options/train/RealESRGAN/train_realesrgan_x4plus.yml",
}
MODELS = {"ESRGAN": ("esrgan_model", "ESRGANModel"), "Real-ESRGAN": ("realesrgan_model", "RealESRGANModel")}
LOSSES = {"ESRGAN": "relativistic average, L1", "Real-ESRGAN": "non-saturating on every pixel, L1"}
NUM_BATCHES = 4
SCALE = 4
Adversarial = Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]
"""The model, D's outputs on real images and on fakes -> what D and what G minimises through D."""


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[LoopCase]:
    """Return both cases at one size: high-resolution crops of `resolution`, `width` features in G and in D."""
    why = "only files, metrics and logs use it"
    stand_in({"lmdb": ["lmdb"], "skimage": ["skimage"]}, changes, why)
    sharpening = "Real-ESRGAN's sharpening uses it, by OpenCV's formula"
    stand_in({"cv2": ["cv2"]}, changes, sharpening, getGaussianKernel=gaussian_kernel)
    if settings.device.type == "cpu":
        stay_on_cpu(changes)
    search(path)
    _pass_over_init(path, changes)
    changes.patch("Option files are read with the sizes that are asked for, without pretrained weights and data sets.")
    changes.remark("The perceptual loss is left out on both sides: its VGG weights would be downloaded.")
    changes.remark("A step is its feed_data and optimize_parameters; ours calls feed_data and its moving average too.")
    changes.remark("Its optimize_parameters calls .item() on every loss, and so waits for the device.")
    changes.remark("It updates G first, then D; ours takes both gradients at the same weights.")
    changes.remark(
        "Real-ESRGAN gets pairs of images; the degradations that its loader's batches go through are not run."
    )
    changes.remark("The images are synthetic: smooth noise, and its reduction by averages.")
    return [_case(path, kind, settings) for kind in OPTIONS]


def _case(path: Path, kind: str, settings: Settings) -> LoopCase:
    options = _read(path / OPTIONS[kind], settings)
    module_name, class_name = MODELS[kind]
    file = path / "basicsr" / "models" / f"{module_name}.py"
    with importing(file):
        module = importlib.import_module(f"basicsr.models.{module_name}")
    model_class = needed(module, class_name, file)
    adversarial = {"ESRGAN": _relativistic, "Real-ESRGAN": _plain}[kind]

    def build() -> Players:
        model = model_class(copy.deepcopy(options))
        if isinstance(sharpener := getattr(model, "usm_sharpener", None), nn.Module):
            sharpener.to(torch.get_default_dtype())  # float32 by name, and no part of the networks
        return Players(model.net_g, model.net_d, model.optimizer_g, model.optimizer_d, model)

    def loop(players: Players, batches: Any) -> None:
        model = players.whole
        model.optimizer_g, model.optimizer_d = players.generator_optimizer, players.discriminator_optimizer
        for step, batch in enumerate(batches, 1):
            model.feed_data(batch)
            model.optimize_parameters(step)

    def ours(players: Players, batches: Any) -> None:
        model = players.whole
        for batch in batches:
            model.feed_data(batch)
            players.zero_grad()
            fake = players.generator(model.lq)
            leaf = osgan.tap(fake)
            of_pixels, real = _targets(model)
            D = players.discriminator
            d_loss, g_loss = adversarial(model, D(real), D(leaf))
            osgan.backward(leaf, d_loss, g_loss, extra=model.cri_pix(fake, of_pixels))
            players.update()
            if model.ema_decay > 0:
                model.model_ema(decay=model.ema_decay)

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        model, D = players.whole, players.discriminator
        model.feed_data(batch)
        fake = players.generator(model.lq)
        of_pixels, real = _targets(model)
        d_loss, _ = adversarial(model, D(real), D(fake.detach()))
        _, g_loss = adversarial(model, D(real), D(fake))
        return d_loss, g_loss + model.cri_pix(fake, of_pixels)

    return LoopCase(
        name=kind,
        loss=LOSSES[kind],
        batch_size=settings.batch_size,
        about={
            "architecture": f"{options['network_g']['type']} and {options['network_d']['type']}",
            "width": settings.width,
            "blocks": options["network_g"]["num_block"],
            "image": f"{settings.resolution} pixels from {settings.resolution // SCALE}",
        },
        file=f"basicsr/models/{module_name}.py",
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, two backward passes through D")},
        losses=losses,
        batches=[_pair(settings, seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )


def _relativistic(model: Any, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Each side is judged against the other's mean, which D's loss takes as a constant."""
    of_D = model.cri_gan(real - fake.detach().mean(), True, is_disc=True)
    of_D = of_D + model.cri_gan(fake - real.detach().mean(), False, is_disc=True)
    of_G = model.cri_gan(real.detach() - fake.mean(), False, is_disc=False)
    of_G = of_G + model.cri_gan(fake - real.detach().mean(), True, is_disc=False)
    return of_D / 2, of_G / 2


def _plain(model: Any, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    of_D = model.cri_gan(real, True, is_disc=True) + model.cri_gan(fake, False, is_disc=True)
    return of_D, model.cri_gan(fake, True, is_disc=False)


def _targets(model: Any) -> tuple[Tensor, Tensor]:
    """Return what the pixels are to be and what D takes for real, (N, 3, H, W) each: sharpened or not."""
    sharpened = [model.opt.get(name) for name in ("l1_gt_usm", "gan_gt_usm")]
    of_pixels, real = (model.gt_usm if usm else model.gt for usm in sharpened)
    return of_pixels, real


def _pair(settings: Settings, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(settings.batch_size, 3, 16, 16, generator=generator)
    images = interpolate(coarse, size=settings.resolution, mode="bicubic").clamp(0, 1).to(settings.device)
    return {"gt": images, "lq": interpolate(images, scale_factor=1 / SCALE, mode="area")}


def gaussian_kernel(size: int, sigma: float) -> NDArray[np.float64]:
    """Return a Gaussian (size, 1) of sum 1; a sigma of 0 stands for one that goes with the size, as in OpenCV."""
    sigma = sigma or 0.3 * ((size - 1) / 2 - 1) + 0.8
    kernel = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))[:, None]
    return kernel / kernel.sum()


def _read(file: Path, settings: Settings) -> dict[str, Any]:
    try:
        options: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; the adapter needs this file of the checkout") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {error}") from None
    if missing := [name for name in ("network_g", "network_d", "train") if name not in options]:
        raise InputError(f"{file} lacks {', '.join(missing)}, which the adapter looks for")
    options |= {"num_gpu": 0 if settings.device.type == "cpu" else 1, "dist": False, "rank": 0, "is_train": True}
    options |= {"path": {}, "high_order_degradation": False}
    options["train"].pop("perceptual_opt", None)
    options["network_g"] |= {"num_feat": settings.width, "num_grow_ch": max(1, settings.width // 2)}
    options["network_d"] |= {"num_feat": settings.width}
    if options["network_d"]["type"] == "VGGStyleDiscriminator":
        options["network_d"]["input_size"] = settings.resolution
    return options


def _pass_over_init(path: Path, changes: Changes) -> None:
    """Put an empty package where basicsr is: its __init__ imports all there is, a file written by setup.py too."""
    package = ModuleType("basicsr")
    package.__path__ = [str(path / "basicsr")]
    sys.modules["basicsr"] = package
    changes.patch("basicsr/__init__.py, which imports all there is and a file that setup.py writes, is passed over.")


PEER = Peer(
    key="basicsr",
    title="BasicSR, ESRGAN and Real-ESRGAN",
    url="https://github.com/XPixelGroup/BasicSR",
    recognised_by=("basicsr/models/esrgan_model.py", "basicsr/models/realesrgan_model.py"),
    batch_size=16,
    width=64,
    resolutions=(128, 256),
    cpu_batch_size=2,
    open=open_checkout,
)
