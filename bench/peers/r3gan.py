"""R3GAN (brownvc/R3GAN): the relativistic pairing loss with R1 and R2, by the loop of its `training_loop`.

The body of the function's `while True` is compiled as it stands, as a loop over so many steps; what it works on is
built here from their classes.
"""

import ast
import copy
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Optimizer
from torch.torch_version import TorchVersion

import osgan
from bench.peers.imports import Overridden, compiled, function, importing, needed, search, stand_in
from bench.peers.peer import Case, Changes, LoopCase, Ours, OurSteps, Peer, PeerCase, Players, Settings, Theirs
from osgan.errors import InputError
from osgan.latent import Gaussian

RESOLUTION = 32
GAMMA = 0.05
NOISE = 64
STEPS = "_steps_to_take"
FILE = "training/training_loop.py"
NUM_BATCHES = 4


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[Case]:
    """Return the networks of its CIFAR-10 preset, `width` channels in every stage, twice.

    Once beside our schemes, whose penalties go forward through D on their own, and once beside a loop of ours that
    takes them from the forward pass of the loss, as theirs does.
    """
    why = "only downloads and logs use it"
    stand_in({name: [name] for name in ("psutil", "requests")}, changes, why)
    stand_in({"pkg_resources": ["pkg_resources"]}, changes, "it compares PyTorch's version", parse_version=TorchVersion)
    search(path)
    checkout = _Checkout(path, settings)
    changes.patch("The body of the loop in `training_loop` runs so many times, on batches on the device.")
    changes.patch("What the loop works on is built here from its classes; no log, snapshot and evaluation is reached.")
    changes.patch("Beside the loop of ours D's update and G's have the same latents: it draws them once a step.")
    changes.remark("The CIFAR-10 preset without classes and augmentation, in float32: its bfloat16 stages are off.")
    changes.remark("The schedules are held at their first values: gamma 0.05, learning rate 2e-4, beta2 0.9.")
    changes.remark("Its loop copies gradients into one tensor and keeps a moving average of G, which ours does not.")
    changes.remark("It takes both penalties from the forward pass of its loss; so do ours.")
    return [_beside_schemes(checkout, settings), _beside_a_loop(checkout, settings)]


class _Checkout:
    """Their classes, and the loop."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.file = path / "training" / "training_loop.py"
        self.steps = _steps(self.file)
        with importing(self.file):
            self.module = importlib.import_module("training.training_loop")
            self.networks = importlib.import_module("training.networks")
            loss = importlib.import_module("training.loss")
            self.easy_dict = importlib.import_module("dnnlib").EasyDict
        self.loss_class = needed(loss, "R3GANLoss", path / "training" / "loss.py")
        self.settings = settings

    def build(self) -> tuple[Any, Any]:
        """Build G and D, modules each around a Model."""
        width = self.settings.width
        shared: dict[str, Any] = {
            "WidthPerStage": [width] * 4,
            "BlocksPerStage": [2] * 4,
            "CardinalityPerStage": [max(1, width // 8)] * 4,
        }
        shared |= {"ExpansionFactor": 2, "FP16Stages": [], "c_dim": 0, "img_resolution": RESOLUTION}
        generator = needed(self.networks, "Generator", self.file)(NoiseDimension=NOISE, **shared)
        discriminator = needed(self.networks, "Discriminator", self.file)(**shared)
        for layer in (*generator.modules(), *discriminator.modules()):
            if hasattr(layer, "DataType"):
                layer.DataType = torch.get_default_dtype()
        return generator.to(self.settings.device), discriminator.to(self.settings.device)

    def names(self, generator: nn.Module, discriminator: nn.Module) -> dict[str, Any]:
        """Return what the loop finds in its function."""
        size = self.settings.batch_size
        return vars(self.module) | {
            "G": generator,
            "D": discriminator,
            "G_ema": copy.deepcopy(generator).eval().requires_grad_(False),
            "loss": self.loss_class(generator, discriminator),
            "device": self.settings.device,
            "batch_size": size,
            "d_batch_gpu": size,
            "g_batch_gpu": size,
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

    def run(self, names: dict[str, Any], of_G: Optimizer, of_D: Optimizer, batches: Any) -> None:
        """Take a step for each batch."""
        phases = [("D", names["D"], of_D), ("G", names["G"], of_G)]
        shared = {"batch_gpu": self.settings.batch_size, "start_event": None, "end_event": None}
        names["phases"] = [
            self.easy_dict(name=name, module=network, opt=optimizer, **shared) for name, network, optimizer in phases
        ]
        names["lr_scheduler"] = _constant(of_D.param_groups[0]["lr"])
        names["training_set_iterator"] = _twice(batches)
        names[STEPS] = range(len(batches))
        names["G"].requires_grad_(False)
        names["D"].requires_grad_(False)
        exec(self.steps, names)


def _adams(generator: nn.Module, discriminator: nn.Module) -> tuple[Optimizer, Optimizer]:
    of_G, of_D = (torch.optim.Adam(n.parameters(), 2e-4, betas=(0.0, 0.9)) for n in (generator, discriminator))
    return of_G, of_D


def _about(settings: Settings) -> dict[str, Any]:
    return {"architecture": "R3GAN, CIFAR-10 preset", "width": settings.width, "latent": NOISE}


def _beside_schemes(checkout: _Checkout, settings: Settings) -> PeerCase:
    torch.manual_seed(0)
    generator, discriminator = checkout.build()
    start = copy.deepcopy((generator.Model, discriminator.Model))
    names = checkout.names(generator, discriminator)

    def loop(G: nn.Module, D: nn.Module, of_G: Optimizer, of_D: Optimizer, batches: Any) -> None:
        checkout.run(names, of_G, of_D, batches)

    theirs = Theirs("two_stage", FILE, generator, discriminator, *_adams(generator, discriminator), loop)
    return PeerCase(
        name="R3GAN 32x32",
        loss=f"rpgan+r1={GAMMA}+r2={GAMMA}",
        batch_size=settings.batch_size,
        image_shape=(3, RESOLUTION, RESOLUTION),
        about=_about(settings),
        generator=start[0],
        discriminator=start[1],
        latent=Gaussian(NOISE),
        theirs={"theirs two_stage": theirs},
        ours={"ours one_stage": Ours("one_stage"), "ours two_stage": Ours("two_stage")},
        targets={"theirs two_stage": 1.0},
        judged=("ours one_stage",),
    )


def _beside_a_loop(checkout: _Checkout, settings: Settings) -> LoopCase:
    def build() -> Players:
        generator, discriminator = checkout.build()
        names = checkout.names(generator, discriminator)
        own = torch.get_default_dtype()  # float64 while gradients are compared, which their code calls float32
        names["torch"] = Overridden(torch, float32=own, randn=_Twice())
        if (filters := sys.modules.get("torch_utils.ops.upfirdn2d")) is not None:
            filters.torch = Overridden(torch, float32=own)  # type: ignore[attr-defined]
        return Players(generator, discriminator, *_adams(generator, discriminator), names)

    def loop(players: Players, batches: Any) -> None:
        checkout.run(players.whole, players.generator_optimizer, players.discriminator_optimizer, batches)

    def fakes(players: Players, real: Tensor) -> Tensor:
        no_class = real.new_zeros(len(real), 0)
        fake: Tensor = players.generator(torch.randn(len(real), NOISE, device=real.device), no_class)
        return fake

    def logits(players: Players, images: Tensor) -> Tensor:
        of_images: Tensor = players.discriminator(images, images.new_zeros(len(images), 0))
        return of_images

    def penalty(of_images: Tensor, images: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(of_images.sum(), images, create_graph=True)
        return GAMMA / 2 * gradient.square().sum((1, 2, 3)).mean()

    def ours(players: Players, batches: Any) -> None:
        for images, _ in batches:
            players.zero_grad()
            players.generator.requires_grad_(True)
            players.discriminator.requires_grad_(True)
            real = images.detach().requires_grad_()
            leaf = osgan.tap(fakes(players, real))
            r, f = logits(players, real), logits(players, leaf)
            d_loss = softplus(f - r).mean() + penalty(r, real) + penalty(f, leaf)
            osgan.backward(leaf, d_loss, softplus(r - f).mean())
            players.update()

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        real = batch[0].detach().requires_grad_()
        fake = fakes(players, real)
        apart = fake.detach().requires_grad_()
        r, f = logits(players, real), logits(players, apart)
        d_loss = softplus(f - r).mean() + penalty(r, real) + penalty(f, apart)
        return d_loss, softplus(r.detach() - logits(players, fake)).mean()

    return LoopCase(
        name="R3GAN 32x32, penalties from the loss's forward pass",
        loss=f"rpgan+r1={GAMMA}+r2={GAMMA}",
        batch_size=settings.batch_size,
        about=_about(settings),
        file=FILE,
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, two backward passes through D")},
        losses=losses,
        batches=[_images(settings, seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )


class _Twice:
    """Draws normal numbers, and gives them a second time."""

    def __init__(self) -> None:
        self.drawn: Tensor | None = None

    def __call__(self, *shape: Any, **options: Any) -> Tensor:
        last, self.drawn = self.drawn, None
        if last is not None:
            return last
        self.drawn = torch.randn(*shape, **options)
        return self.drawn


def _images(settings: Settings, seed: int) -> tuple[Tensor, None]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(settings.batch_size, 3, RESOLUTION, RESOLUTION, generator=generator) * 2 - 1
    return images.to(settings.device), None


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
