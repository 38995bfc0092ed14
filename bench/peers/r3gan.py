"""R3GAN (brownvc/R3GAN): the relativistic pairing loss with R1 and R2, by the loop of its `training_loop`.

The body of the function's `while True` is compiled as it stands, as a loop over so many steps; what it works on is
built here from their classes.
"""

import ast
import copy
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.torch_version import TorchVersion

from bench.peers.imports import compiled, function, importing, needed, search, stand_in
from bench.peers.peer import Changes, Ours, Peer, PeerCase, Settings, Theirs
from osgan.errors import InputError
from osgan.latent import Gaussian

RESOLUTION = 32
GAMMA = 0.05
NOISE = 64
STEPS = "_steps_to_take"


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[PeerCase]:
    """Return the one case: the networks of its CIFAR-10 preset, `width` channels in every stage."""
    why = "only downloads and logs use it"
    stand_in({name: [name] for name in ("psutil", "requests")}, changes, why)
    stand_in({"pkg_resources": ["pkg_resources"]}, changes, "it compares PyTorch's version", parse_version=TorchVersion)
    search(path)
    file = path / "training" / "training_loop.py"
    steps = _steps(file)
    with importing(file):
        module = importlib.import_module("training.training_loop")
        networks = importlib.import_module("training.networks")
        loss_class = needed(importlib.import_module("training.loss"), "R3GANLoss", path / "training" / "loss.py")
        easy_dict = importlib.import_module("dnnlib").EasyDict
    changes.patch("The body of the loop in `training_loop` runs so many times, on batches on the device.")
    changes.patch("What the loop works on is built here from its classes; no log, snapshot and evaluation is reached.")
    changes.remark("The CIFAR-10 preset without classes and augmentation, in float32: its bfloat16 stages are off.")
    changes.remark("The schedules are held at their first values: gamma 0.05, learning rate 2e-4, beta2 0.9.")
    changes.remark("Its loop copies gradients into one tensor and keeps a moving average of G, which ours does not.")
    changes.remark("It takes both penalties from the forward pass of its loss; ours takes a forward pass for each.")
    width, batch_size = settings.width, settings.batch_size
    shared: dict[str, Any] = {
        "WidthPerStage": [width] * 4,
        "BlocksPerStage": [2] * 4,
        "CardinalityPerStage": [max(1, width // 8)] * 4,
    }
    shared |= {"ExpansionFactor": 2, "FP16Stages": [], "c_dim": 0, "img_resolution": RESOLUTION}
    torch.manual_seed(0)
    generator = needed(networks, "Generator", file)(NoiseDimension=NOISE, **shared).to(settings.device)
    discriminator = needed(networks, "Discriminator", file)(**shared).to(settings.device)
    start = copy.deepcopy((generator.Model, discriminator.Model))
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    loss = loss_class(generator, discriminator)
    names: dict[str, Any] = vars(module) | {
        "G": generator,
        "D": discriminator,
        "G_ema": average,
        "loss": loss,
        "device": settings.device,
        "batch_size": batch_size,
        "d_batch_gpu": batch_size,
        "g_batch_gpu": batch_size,
        "num_gpus": 1,
        "augment_pipe": None,
        "cur_nimg": 0,
        "cur_tick": 1,
        "tick_start_nimg": 0,
        "batch_idx": 0,
        "kimg_per_tick": float("inf"),
        "total_kimg": float("inf"),
        "gamma_scheduler": _constant(GAMMA),
        "beta2_scheduler": _constant(0.9),
        "ema_scheduler": _constant(0.0),
        "aug_scheduler": _constant(0.0),
    }

    def loop(G: nn.Module, D: nn.Module, of_G: Optimizer, of_D: Optimizer, batches: Any) -> None:
        phases = [("D", D, of_D), ("G", G, of_G)]
        names["phases"] = [
            easy_dict(name=name, module=network, opt=optimizer, batch_gpu=batch_size, start_event=None, end_event=None)
            for name, network, optimizer in phases
        ]
        names["lr_scheduler"] = _constant(of_D.param_groups[0]["lr"])
        names["training_set_iterator"] = _twice(batches)
        names[STEPS] = range(len(batches))
        generator.requires_grad_(False)
        discriminator.requires_grad_(False)
        exec(steps, names)

    optimizers = [torch.optim.Adam(n.parameters(), 2e-4, betas=(0.0, 0.9)) for n in (generator, discriminator)]
    case = PeerCase(
        name="R3GAN 32x32",
        loss=f"rpgan+r1={GAMMA}+r2={GAMMA}",
        batch_size=batch_size,
        image_shape=(3, RESOLUTION, RESOLUTION),
        about={"architecture": "R3GAN, CIFAR-10 preset", "width": width, "latent": NOISE},
        generator=start[0],
        discriminator=start[1],
        latent=Gaussian(NOISE),
        theirs={
            "theirs two_stage": Theirs(
                "two_stage", "training/training_loop.py", generator, discriminator, optimizers[0], optimizers[1], loop
            )
        },
        ours={"ours one_stage": Ours("one_stage"), "ours two_stage": Ours("two_stage")},
        targets={"theirs two_stage": 1.0},
        judged=("ours one_stage",),
    )
    return [case]


def _steps(file: Path) -> Any:
    for node in function(file, "training_loop").body:
        if isinstance(node, ast.While):
            loop = ast.For(ast.Name("_", ast.Store()), ast.Name(STEPS, ast.Load()), node.body, [])
            return compiled(file, [ast.fix_missing_locations(ast.copy_location(loop, node))])
    raise InputError(
        f"{file}: `training_loop` has no while loop, which the adapter looks for: the checkout is of another version"
    )


def _constant(value: float) -> dict[str, float]:
    return {"base_value": value, "final_value": value, "total_nimg": 1e12}


def _twice(batches: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each batch for D's update and for G's: images from 0 to 255, as it reads them, and no classes."""
    for images, _ in batches:
        whole = (images + 1) * 127.5
        yield whole, images.new_zeros(len(images), 0)
        yield whole, images.new_zeros(len(images), 0)


PEER = Peer(
    key="r3gan",
    title="R3GAN",
    url="https://github.com/brownvc/R3GAN",
    recognised_by=("R3GAN/Trainer.py", "training/training_loop.py"),
    batch_size=64,
    width=768,
    resolutions=(RESOLUTION,),
    cpu_batch_size=8,
    cpu_width=64,
    open=open_checkout,
)
