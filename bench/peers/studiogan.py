"""PyTorch-StudioGAN (POSTECH-CVLab): BigGAN on 32x32, conditional, by the `train_*` methods of its worker."""

import importlib
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

import osgan
from bench.peers.imports import importing, needed, search, stand_in
from bench.peers.peer import Changes, LoopCase, OurSteps, Peer, Players, Settings
from osgan.errors import InputError

CONFIG = "src/configs/CIFAR10/BigGAN.yaml"
UNUSED = ["h5py", "kornia", "matplotlib", "requests", "seaborn", "six", "sklearn", "timm", "tqdm", "wandb"]
NUM_BATCHES = 4


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[LoopCase]:
    """Return the one case: BigGAN's settings on CIFAR-10, `width` channels in both networks."""
    stand_in({name: [name] for name in UNUSED}, changes, "only files, metrics and logs use it")
    stand_in({"pkg_resources": ["pkg_resources"]}, changes, "it compares PyTorch's version", parse_version=TorchVersion)
    search(path / "src")
    file = path / "src" / "worker.py"
    with importing(file):
        worker_class = needed(importlib.import_module("worker"), "WORKER", file)
        sample = importlib.import_module("utils.sample")
        misc = importlib.import_module("utils.misc")
        build_networks = importlib.import_module("models.model").load_generator_discriminator
        configurations = importlib.import_module("config").Configurations
    changes.patch("The worker is built without data set, evaluation and log, as a process of rank 1.")
    changes.patch(f"{CONFIG} is read with the batch size and width that are asked for.")
    changes.remark(
        "A step is one update of D and one of G: d_updates_per_step 1, where the settings take 5. Both draw fakes anew."
    )
    changes.remark("Ours keeps what its steps do beside: the moving average of G, the modes of its norms.")
    changes.remark("The images and their classes are noise.")
    about: dict[str, Any] = {}

    def build() -> Players:
        config = _config(configurations, path / CONFIG, settings)
        parts = build_networks(
            config.DATA,
            config.OPTIMIZATION,
            config.MODEL,
            config.STYLEGAN,
            config.MODULES,
            config.RUN,
            settings.device,
            logging.getLogger("studiogan"),
        )
        names = "Gen", "Gen_mapping", "Gen_synthesis", "Dis", "Gen_ema", "Gen_ema_mapping", "Gen_ema_synthesis", "ema"
        config.define_optimizer(parts[0], parts[3])
        worker = worker_class(cfgs=config, **dict(zip(names, parts, strict=True)), **_nothing(settings.device))
        about.update(latent=config.MODEL.z_dim, classes=config.DATA.num_classes, loss=config.LOSS.adv_loss)
        about["architecture"] = config.MODEL.backbone
        return Players(worker.Gen, worker.Dis, config.OPTIMIZATION.g_optimizer, config.OPTIMIZATION.d_optimizer, worker)

    def loop(players: Players, batches: Any) -> None:
        worker = players.whole
        worker.OPTIMIZATION.g_optimizer = players.generator_optimizer
        worker.OPTIMIZATION.d_optimizer = players.discriminator_optimizer
        worker.train_iter = iter(batches)
        for step in range(len(batches)):
            worker.train_discriminator(current_step=step)
            worker.train_generator(current_step=step)

    def fakes(worker: Any) -> tuple[Tensor, Tensor]:
        model = worker.MODEL
        labels, z = (
            sample.sample_y("totally_random", settings.batch_size, worker.DATA.num_classes, settings.device),
            sample.sample_normal(settings.batch_size, model.z_dim, -1.0, settings.device),
        )
        return worker.Gen(z, labels), labels

    def ours(players: Players, batches: Any) -> None:
        worker = players.whole
        for step, (real, real_labels) in enumerate(batches):
            misc.make_GAN_trainable(worker.Gen, worker.Gen_ema, worker.Dis)
            worker.Gen.apply(misc.track_bn_statistics)
            players.zero_grad()
            fake, labels = fakes(worker)
            leaf = osgan.tap(fake)
            logits = worker.Dis(real, real_labels)["adv_output"], worker.Dis(leaf, labels)["adv_output"]
            d_loss = worker.LOSS.d_loss(*logits, DDP=False)
            osgan.backward(leaf, d_loss, worker.LOSS.g_loss(logits[1], DDP=False), logits=logits)
            players.update()
            worker.ema.update(step)

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        worker = players.whole
        real, real_labels = batch
        fake, labels = fakes(worker)
        of_real = worker.Dis(real, real_labels)["adv_output"]
        d_loss = worker.LOSS.d_loss(of_real, worker.Dis(fake.detach(), labels)["adv_output"], DDP=False)
        return d_loss, worker.LOSS.g_loss(worker.Dis(fake, labels)["adv_output"], DDP=False)

    build()
    case = LoopCase(
        name="BigGAN 32x32",
        loss=about.pop("loss"),
        batch_size=settings.batch_size,
        about={"width": settings.width, **about},
        file="src/worker.py",
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, one backward pass through D")},
        losses=losses,
        batches=[_images(settings, about["classes"], seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )
    return [case]


def _nothing(device: torch.device) -> dict[str, Any]:
    """Return what a worker takes for its data set, its log and its evaluation."""
    nothing = "eval_model", "train_dataloader", "eval_dataloader", "mu", "sigma", "real_feats", "logger", "lecam_emas"
    best = dict.fromkeys(("best_step", "best_fid", "num_eval"), 0)
    return (
        dict.fromkeys(nothing)
        | best
        | {"run_name": "peer", "global_rank": 1, "local_rank": device, "aa_p": 0.0, "best_ckpt_path": ""}
        | {"loss_list_dict": {}, "metric_dict_during_train": {}}
    )


def _config(configurations: Any, file: Path, settings: Settings) -> Any:
    if not file.is_file():
        raise InputError(f"{file}: no such file; the adapter needs this file of the checkout")
    config = configurations(str(file))
    config.MODEL.g_conv_dim = config.MODEL.d_conv_dim = settings.width
    config.OPTIMIZATION.batch_size = settings.batch_size
    config.OPTIMIZATION.acml_steps = config.OPTIMIZATION.d_updates_per_step = 1
    run = {"distributed_data_parallel": False, "mixed_precision": False, "freezeD": -1, "empty_cache": False}
    run |= {"batch_statistics": False, "synchronized_bn": False, "langevin_sampling": False, "train": True}
    config.RUN = SimpleNamespace(**run)
    return config


def _images(settings: Settings, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(settings.batch_size, 3, RESOLUTION, RESOLUTION, generator=generator) * 2 - 1
    labels = torch.randint(num_classes, (settings.batch_size,), generator=generator)
    return images.to(settings.device), labels.to(settings.device)


RESOLUTION = 32
PEER = Peer(
    key="studiogan",
    title="PyTorch-StudioGAN, BigGAN",
    url="https://github.com/POSTECH-CVLab/PyTorch-StudioGAN",
    recognised_by=("src/worker.py", CONFIG),
    batch_size=64,
    width=96,
    resolutions=(RESOLUTION,),
    cpu_batch_size=8,
    open=open_checkout,
)
