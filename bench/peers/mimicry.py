"""mimicry (kwotsin/mimicry): SNGAN with the hinge loss, one `train_step` of D and one of G."""

import copy
import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.peers.imports import importing, needed, search, stand_in
from bench.peers.peer import Changes, Ours, Peer, PeerCase, Settings, Theirs
from osgan.latent import Gaussian


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[PeerCase]:
    """Return SNGAN at one resolution."""
    why = "only datasets, metrics and logs use it"
    stand_in({"skimage": ["skimage"]}, changes, why)
    for package in ("tensorflow", "tensorboard"):  # PyTorch's TensorBoard writer makes use of both
        stand_in({package: [package, "torch.utils.tensorboard"]}, changes, why)
    changes.remark(
        "A step is one update of D and one of G: its trainer's n_dis = 1 (its examples take 5 of D to 1 of G)."
    )
    changes.remark(
        "Its train_step calls .item() on losses and mean probabilities, and so waits for the device. The trainer "
        "around it (checkpoints, TensorBoard, its learning-rate schedule) is left out; that favours it."
    )
    resolution, batch_size, width = settings.resolution, settings.batch_size, settings.width
    search(path)
    file = path / "torch_mimicry" / "nets" / "sngan" / f"sngan_{resolution}.py"
    with importing(file):
        module = importlib.import_module(f"torch_mimicry.nets.sngan.sngan_{resolution}")
        log = importlib.import_module("torch_mimicry.training.metric_log")
    metric_log = needed(log, "MetricLog", path / "torch_mimicry" / "training" / "metric_log.py")
    build_G, build_D = (needed(module, f"SNGAN{role}{resolution}", file) for role in ("Generator", "Discriminator"))
    of_G, of_D = _default(build_G, "ngf"), _default(build_D, "ndf")
    torch.manual_seed(0)
    generator, discriminator = build_G(ngf=max(1, of_G * width // of_D)), build_D(ndf=width)
    for network in (generator, discriminator):
        needed(network, "train_step", file)
        network.to(settings.device)
    start = copy.deepcopy((generator, discriminator))

    def loop(G: Any, D: Any, of_G: Any, of_D: Any, batches: Any) -> None:
        for step, batch in enumerate(batches):
            shared = {"real_batch": batch, "device": settings.device, "global_step": step}
            log_data = D.train_step(netG=G, optD=of_D, log_data=metric_log(), **shared)
            G.train_step(netD=D, optG=of_G, log_data=log_data, **shared)

    adam_G, adam_D = (torch.optim.Adam(n.parameters(), 2e-4, betas=(0.0, 0.9)) for n in (generator, discriminator))
    case = PeerCase(
        name=f"SNGAN {resolution}x{resolution}",
        loss="hinge",
        batch_size=batch_size,
        image_shape=(3, resolution, resolution),
        about={"architecture": f"SNGAN {resolution}x{resolution}", "width": width, "latent": generator.nz},
        generator=start[0],
        discriminator=start[1],
        latent=Gaussian(generator.nz),
        theirs={
            "theirs two_stage": Theirs(
                "two_stage", "torch_mimicry/nets/gan/gan.py", generator, discriminator, adam_G, adam_D, loop
            )
        },
        ours={"ours one_stage": Ours("one_stage"), "ours two_stage": Ours("two_stage")},
        targets={"theirs two_stage": 2.0},
        judged=("ours one_stage",),
    )
    return [case]


def _default(build: type[nn.Module], argument: str) -> int:
    return int(inspect.signature(build).parameters[argument].default)


PEER = Peer(
    key="mimicry",
    title="mimicry, SNGAN",
    url="https://github.com/kwotsin/mimicry",
    recognised_by=("torch_mimicry/nets/sngan/sngan_base.py",),
    batch_size=64,
    width=128,
    resolutions=(32, 48, 64, 128),
    open=open_checkout,
)
