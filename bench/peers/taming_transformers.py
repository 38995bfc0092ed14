"""taming-transformers (CompVis): VQGAN, an autoencoder with a codebook and a patch D, adaptively weighted."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Optimizer

import osgan
from bench.peers.imports import importing, lent, needed, search, stand_in
from bench.peers.peer import Changes, LoopCase, OurSteps, Peer, Players, Settings
from osgan.errors import InputError

CONFIG = "configs/imagenet_vqgan.yaml"
NUM_BATCHES = 4
OF_G = ("encoder", "decoder", "quantize", "quant_conv", "post_quant_conv")


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[LoopCase]:
    """Return the one case: the ImageNet configuration, `width` channels in G's first layer and half of it in D's."""
    stand_in({"requests": ["requests"]}, changes, "only downloads use it")
    stand_in({"einops": ["einops"]}, changes, "its one use is a permutation", rearrange=permuted)
    search(path)
    file = path / "taming" / "models" / "vqgan.py"
    main, lightning = ModuleType("main"), ModuleType("pytorch_lightning")
    main.instantiate_from_config = _instantiate  # type: ignore[attr-defined]
    lightning.LightningModule = _NoLightning  # type: ignore[attr-defined]
    with importing(file), lent(main=main, pytorch_lightning=lightning):
        module = importlib.import_module("taming.models.vqgan")
        perceptual = importlib.import_module("taming.modules.losses.vqperceptual")
    perceptual.LPIPS = nn.Identity  # type: ignore[attr-defined]
    model_class = needed(module, "VQModel", file)
    options = _read(path / CONFIG, settings)
    changes.patch("main.py, whose imports are those of a whole application, is passed over.")
    changes.patch("LightningModule is a plain module that logs nothing: today's has no steps for several optimizers.")
    changes.patch("LPIPS is left out, its weight set to 0: its weights would be downloaded.")
    changes.patch(f"{CONFIG} is read with the sizes that are asked for, and with disc_start 0: D takes part at once.")
    changes.remark("The steps are called as Lightning 1.0 does it: forward, backward and update for G, then for D.")
    changes.remark("G's step goes backward through D twice, once for the adaptive weight; ours weighs what arrived.")
    changes.remark("The images are synthetic: smooth noise.")

    def build() -> Players:
        model = model_class(**options)
        for part in (*OF_G, "loss"):
            needed(model, part, file)
        model.learning_rate = 1e-5
        of_G, of_D = model.to(settings.device).configure_optimizers()[0]
        parts = nn.ModuleList([getattr(model, part) for part in OF_G])
        return Players(parts, model.loss.discriminator, of_G, of_D, model)

    def loop(players: Players, batches: Any) -> None:
        optimizers = players.generator_optimizer, players.discriminator_optimizer
        for step, batch in enumerate(batches):
            for place, optimizer in enumerate(optimizers):
                _toggle(players.whole, optimizer)
                loss = players.whole.training_step(batch, step, place)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

    def ours(players: Players, batches: Any) -> None:
        model, last_layer = players.whole, players.whole.get_last_layer()
        terms, D = model.loss, players.discriminator
        for batch in batches:
            players.zero_grad()
            real = model.get_input(batch, model.image_key)
            fake, codebook_loss = model(real)
            away = (real - fake).abs().mean()
            leaf = osgan.tap(fake)
            logits = D(leaf)
            d_loss = terms.disc_factor * terms.disc_loss(D(real), logits)
            (of_away,) = torch.autograd.grad(away, last_layer, retain_graph=True)

            def weight(arrived: Tensor, fake: Tensor = fake, of_away: Tensor = of_away) -> Tensor:
                (of_D,) = torch.autograd.grad(fake, last_layer, arrived, retain_graph=True)
                ratio = of_away.norm() / (of_D.norm() + 1e-4)
                return ratio.clamp(0.0, 1e4) * terms.discriminator_weight * terms.disc_factor

            extra = away + terms.codebook_weight * codebook_loss.mean()
            osgan.backward(leaf, d_loss, -logits.mean(), extra=extra, weight=weight)
            players.update()

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        model = players.whole
        real = model.get_input(batch, model.image_key)
        fake, codebook_loss = model(real)
        of_D, of_G = (
            model.loss(codebook_loss, real, fake, place, 0, last_layer=model.get_last_layer())[0] for place in (1, 0)
        )
        return of_D, of_G

    loss = options["lossconfig"]["params"].get("disc_loss", "hinge")
    case = LoopCase(
        name="VQGAN",
        loss=f"{loss} on patches, adaptively weighted, L1 and codebook",
        batch_size=settings.batch_size,
        about={
            "architecture": CONFIG,
            "width": f"{settings.width}, D's {settings.width // 2}",
            "image": f"{settings.resolution} pixels",
        },
        file="taming/models/vqgan.py",
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, two backward passes through D")},
        losses=losses,
        batches=[_images(settings, seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )
    return [case]


class _NoLightning(nn.Module):
    global_step = 0

    def log(self, *_: Any, **__: Any) -> None:
        pass

    def log_dict(self, *_: Any, **__: Any) -> None:
        pass


def _toggle(model: nn.Module, optimizer: Optimizer) -> None:
    """Let the weights of one optimizer alone take gradients, as Lightning does before a step of it."""
    model.requires_grad_(False)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)


def _instantiate(config: dict[str, Any]) -> Any:
    module, _, name = config["target"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**config.get("params", {}))


def permuted(tensor: Tensor, pattern: str) -> Tensor:
    """Permute the axes as `b c h w -> b h w c` says: what VQGAN asks einops.rearrange for."""
    before, _, after = pattern.partition("->")
    axes = before.split()
    return tensor.permute([axes.index(axis) for axis in after.split()])


def _images(settings: Settings, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(settings.batch_size, 3, 16, 16, generator=generator) * 2 - 1
    images = interpolate(coarse, size=settings.resolution, mode="bicubic").clamp(-1, 1)
    return {"image": images.permute(0, 2, 3, 1).to(settings.device)}


def _read(file: Path, settings: Settings) -> dict[str, Any]:
    try:
        options: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["params"]
        networks, loss = options["ddconfig"], options["lossconfig"]["params"]
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; the adapter needs this file of the checkout") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {error}") from None
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} has no model.params with ddconfig and lossconfig.params: {error!r}") from None
    networks |= {"resolution": settings.resolution, "ch": settings.width}
    loss |= {"disc_start": 0, "perceptual_weight": 0.0, "disc_ndf": settings.width // 2}
    return options


PEER = Peer(
    key="taming-transformers",
    title="taming-transformers, VQGAN",
    url="https://github.com/CompVis/taming-transformers",
    recognised_by=("taming/models/vqgan.py", CONFIG),
    batch_size=12,
    width=128,
    resolutions=(256, 128, 64),
    cpu_batch_size=2,
    cpu_resolution=64,
    open=open_checkout,
)
