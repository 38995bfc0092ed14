"""The OSGAN authors' scripts (zju-vipa/OSGAN), one-stage and two-stage, on DCGAN 64x64.

Each script's own `train` builds its networks, optimizers, hooks and loader, from its own settings file; it is stopped
where it would call its loop, `train_epoch_adv`, which then runs as they wrote it. The repository has no licence: not
one line of it is kept here.
"""

import argparse
import copy
import functools
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import yaml
from PIL import Image, UnidentifiedImageError
from torch import nn

from bench.peers.imports import importing, load_script, needed, parse, search, stand_in, stay_on_cpu
from bench.peers.peer import Changes, Maps, Ours, Peer, PeerCase, Settings, Theirs
from osgan.errors import InputError

RESOLUTION = 64
SETTINGS_FILES = {
    "asymmetric": "cfgs/dcgan/dcgan_asymmetric_one_stage_celeba.yml",
    "symmetric": "cfgs/dcgan/dcgan_symmetric_one_stage_celeba.yml",
    "wgan": "cfgs/wgan/wgan_dcgan_one_stage_celeba.yml",
}
LOSSES = {"asymmetric": "nonsaturating", "symmetric": "minimax", "wgan": "wgan+weight_clipping=0.01"}
SCRIPTS = {
    "asymmetric": {
        "theirs one_stage": "train_dcgan_asymmetric_one_stage.py",
        "theirs one_stage simple": "train_dcgan_asymmetric_one_stage_simple.py",
        "theirs two_stage": "train_dcgan_asymmetric_two_stage.py",
    },
    "symmetric": {
        "theirs one_stage": "train_dcgan_symmetric_one_stage.py",
        "theirs two_stage": "train_dcgan_symmetric_two_stage.py",
    },
    "wgan": {"theirs one_stage": "train_wgan_dcgan_one_stage.py", "theirs two_stage": "train_wgan_dcgan_two_stage.py"},
}


class _Reached(BaseException):
    """Carries what `train` hands to its loop; no `except Exception` of a script can hold it."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments


class _NoLogger:
    log_name = "log"

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def add_text(self, *_: Any) -> None:
        pass


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[PeerCase]:
    """Return the three pairs of scripts; with a folder of images, the same once more from that folder."""
    stand_in({"ruamel": ["ruamel"]}, changes, "it reads the settings files, which are read with PyYAML here")
    stand_in({"tensorboard": ["tensorboard", "torch.utils.tensorboard"]}, changes, "the scripts' log is off")
    changes.patch("The TensorBoard log, which the loops skip without a logger, is off; that favours them.")
    changes.patch("`train` is stopped where it calls its loop; checkpoints and image grids after an epoch are not run.")
    changes.patch("Batches on the device are handed to the loop in place of its loader, but for cases from a folder.")
    changes.remark("Both scripts of a pair run with the settings of the one-stage script on CelebA.")
    changes.remark("Their loop calls .item() on every loss, draws latents and labels on the host, and so waits.")
    changes.remark(
        "The one-stage script of wgan sends real and fake images through a batch-normalised D in one batch and takes "
        "the mean over both: another loss than its two-stage script's, so its gradients are not ours (with GroupNorm "
        "in D they would be ours halved)."
    )
    if settings.device.type == "cpu":
        stay_on_cpu(changes)
    folders = [None] if settings.folder is None else [None, _images(settings.folder)]
    return [_case(path, kind, settings, folder, changes) for folder in folders for kind in SCRIPTS]


def _case(path: Path, kind: str, settings: Settings, folder: Path | None, changes: Changes) -> PeerCase:
    config = _read_settings(path / SETTINGS_FILES[kind])
    batch_size, width = settings.batch_size, settings.width
    config |= {"batch_size": batch_size, "dataset": "celeba", "data_root": str(folder)}
    torch.manual_seed(0)
    theirs: dict[str, Theirs] = {}
    for arm, script in SCRIPTS[kind].items():
        if arm == "theirs one_stage simple" and not (path / script).is_file():
            continue
        theirs[arm] = _capture(path / script, arm.split()[1], config, width, settings, folder, changes)
    first, plain = theirs["theirs one_stage"], theirs["theirs two_stage"]
    for other in theirs.values():
        other.generator.load_state_dict(first.generator.state_dict())
        other.discriminator.load_state_dict(first.discriminator.state_dict())
    at_least = 2.0 if folder is None else 3.0
    return PeerCase(
        name=kind if folder is None else f"{kind}, from a folder",
        loss=LOSSES[kind],
        batch_size=batch_size,
        image_shape=(int(config["num_channel"]), RESOLUTION, RESOLUTION),
        about={"architecture": "DCGAN 64x64", "width": width, "networks": config["method"], "latent": config["zdim"]},
        # the two-stage script's: no hook of theirs sits on them
        generator=copy.deepcopy(plain.generator),
        discriminator=copy.deepcopy(plain.discriminator),
        latent=Maps(int(config["zdim"])),
        latents_on_host=True,
        theirs=theirs,
        ours={"ours one_stage": Ours("one_stage"), "ours two_stage": Ours("two_stage")},
        targets={"theirs one_stage": at_least},
        judged=("ours one_stage",),
        folder=folder,
        shift=100.0 if kind == "asymmetric" else 0.0,
    )


def _capture(
    file: Path,
    scheme: str,
    config: dict[str, Any],
    width: int,
    settings: Settings,
    folder: Path | None,
    changes: Changes,
) -> Theirs:
    """Run a script's `train` up to its loop and return what it would have called the loop with."""
    parse(file.parent / "networks" / "dcgan.py")
    search(file.parent)
    module = load_script(file, file.parent, changes)
    train, loop = needed(module, "train", file), needed(module, "train_epoch_adv", file)

    def reached(*arguments: Any) -> None:
        raise _Reached(arguments)

    replaced: dict[str, Any] = {"train_epoch_adv": reached, "load_yaml": lambda _: config, "Logger": _NoLogger}
    if width != PEER.width:
        replaced["get_model"] = functools.partial(_narrow, needed(module, "get_model", file), width)
        changes.patch(f"Networks are built {width} wide in place of {PEER.width}.")
    if folder is None:
        replaced |= {"datasets": SimpleNamespace(ImageFolder=_no_images), "DataLoader": _no_loader}
    if torch.cuda.device_count() > 1:
        changes.patch("One GPU is used where the scripts would spread a batch over all.")
    try:
        with (
            mock.patch.dict(os.environ),  # it sets CUDA_VISIBLE_DEVICES
            mock.patch.object(torch.cuda, "device_count", return_value=1),
            mock.patch.multiple(module, create=True, **replaced),
            importing(file),
        ):
            train(argparse.Namespace(cfg=""))
    except _Reached as end:
        generator, discriminator, loader, optimizers, *rest = end.arguments
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file}: `train` failed before its loop: {type(error).__name__}: {error}") from error
    else:
        raise InputError(f"{file}: `train` ended without calling `train_epoch_adv`, which the adapter looks for")
    module.logger = None  # type: ignore[attr-defined]

    def epoch(G: nn.Module, D: nn.Module, of_G: Any, of_D: Any, batches: Any) -> object:
        return loop(G, D, batches, (of_G, of_D), *rest)

    G, D = generator.to(settings.device), discriminator.to(settings.device)
    adam_G, adam_D = optimizers
    return Theirs(scheme, file.name, G, D, adam_G, adam_D, epoch, None if folder is None else loader)


def _narrow(get_model: Any, width: int, name: str, **options: Any) -> nn.Module:
    network: nn.Module = get_model(name, d=width, **options)
    return network


def _no_images(*_: Any, **__: Any) -> range:
    return range(0)


def _no_loader(dataset: Any, *_: Any, **__: Any) -> SimpleNamespace:
    return SimpleNamespace(dataset=dataset)


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; the adapter needs this file of the checkout") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {error}") from None
    missing = [key for key in ("method", "zdim", "num_channel", "optimizer_g", "optimizer_d") if key not in settings]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}, which the adapter looks for")
    numbers: dict[str, Any] = _numbers(settings)
    return numbers


def _numbers(value: Any) -> Any:
    """PyYAML takes 2e-4 for text where YAML 1.2, which the authors' reader follows, takes it for a number."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


def _images(folder: Path) -> Path:
    """Return the folder if the scripts can load it: square images of 64 pixels in sub-folders."""
    if not folder.is_dir():
        raise InputError(f"--folder {folder}: no such folder")
    first = next(
        (file for file in sorted(folder.glob("*/*")) if file.suffix.lower() in (".png", ".jpg", ".jpeg")), None
    )
    if first is None:
        raise InputError(
            f"--folder {folder}: no .png or .jpg in a sub-folder, where the scripts' loader looks for them"
        )
    try:
        with Image.open(first) as image:
            size = image.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{first} is not an image: {error}") from None
    if size != (RESOLUTION, RESOLUTION):
        raise InputError(
            f"{first} has {size[0]}x{size[1]} pixels; the scripts load images as they are and train at "
            f"{RESOLUTION}x{RESOLUTION}: resize them first, as the checkout's build_dataset.py does"
        )
    return folder


PEER = Peer(
    key="osgan",
    title="OSGAN authors' code",
    url="https://github.com/zju-vipa/OSGAN",
    recognised_by=("train_dcgan_asymmetric_one_stage.py", "networks/dcgan.py"),
    batch_size=128,
    width=128,
    resolutions=(RESOLUTION,),
    open=open_checkout,
)
