"""Adversarial flow models (ByteDance-Seed): ImageNet latents in one step, by the `training_step` of its trainer.

D: the relativistic loss, R1 and R2 by finite differences on a share of the batch, logits pulled to the middle. G: an
optimal-transport loss beside the adversarial one, whose gradient is normalised at the image. The trainer is built
without its data, autoencoder, writers and checkpoints.
"""

import importlib
import math
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import softplus

import osgan
from bench.peers.imports import StandIn, importing, lent, needed, search, stand_in
from bench.peers.peer import Changes, LoopCase, OurSteps, Peer, Players, Settings
from bench.peers.vision_transformer import LAYERS
from osgan.errors import InputError

FILE = "train_adversarial_flow_imagenet.py"
CONFIG = "configs/train/afm/train_afm_1nfe.yaml"
NETWORKS = "configs/models/afm/dit/b2.yaml"
DIT = "models/afm/dit/dit.py"
PASSED_OVER = ("common.config", "common.metrics", "common.persistence", "common.writers")
CHANNELS = 4
CLASSES = 1000
OF_A_HEAD = 64
"""Channels."""
NUM_BATCHES = 4


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[LoopCase]:
    """Return the one case: B/2 networks, `width` wide in all tokens, on latents of `resolution`."""
    why = "only data, settings and logs use it"
    stand_in({name: [name] for name in ("einops", "kornia", "omegaconf", "tqdm", "wandb")}, changes, why)
    stand_in({"timm": ["timm"]}, changes, "DiT takes these layers from it", **LAYERS)
    search(path)
    file = path / FILE
    networks, config = _networks(path, settings), _config(path / CONFIG)
    with importing(file), lent(**{name: StandIn(name) for name in PASSED_OVER}):
        module = importlib.import_module(file.stem)
    trainer_class = needed(module, "AdversarialFlowTrainer", file)
    capture, normalization = (needed(module, name, file) for name in ("GradientCapture", "GradientNormalization"))
    needed(module, "get_device", file)
    module.get_device = lambda: settings.device  # type: ignore[attr-defined]
    classes = _classes(path)
    changes.patch(f"{', '.join(PASSED_OVER)} are passed over: only settings, metrics, checkpoints and logs use them.")
    changes.patch("The trainer is built on the run's device, without data, autoencoder and log.")
    changes.patch(f"{CONFIG} and {NETWORKS} are read with the width and size that are asked for.")
    changes.patch(
        "Gradients are clipped at infinity, not at 50: their norm is taken, and they are compared as they are."
    )
    changes.patch(
        "What DiT begins with 0 everywhere is drawn, 0.1 wide: else D sees no image before its first updates."
    )
    changes.remark(
        "A step is one of D and one of G, on the same batch, where its two loaders give each one of its own."
    )
    changes.remark("Its two updates draw latents and noise each; ours once, for both losses.")
    changes.remark("Schedules are held at their first values; the moving average of G and the metrics are left out.")
    changes.remark("Timed without the autoencoder, which it runs in every step of D and of G on what is here a batch.")
    changes.remark("What stands for latents is noise, their classes too.")

    def build() -> Players:
        generator, discriminator = (of_player(**networks).to(settings.device) for of_player in classes)
        _draw_what_is_0(generator, discriminator)
        options = {name: config.optimizer[name] for name in ("eps", "weight_decay", "betas")}
        of_G, of_D = (
            torch.optim.AdamW(network.parameters(), config.optimizer[rate], **options)
            for network, rate in ((generator, "gen_lr"), (discriminator, "dis_lr"))
        )
        trainer = trainer_class.__new__(trainer_class)
        trainer.config = config
        trainer.gen, trainer.dis, trainer.cls = generator, discriminator, None
        trainer.dis_trainable_params = [p for p in discriminator.parameters() if p.requires_grad]
        trainer.gen_dis_grad_capture, trainer.gen_ot_grad_capture = capture(), capture()
        trainer.grad_norm = normalization().to(settings.device)
        trainer.gen_lr_schedule = trainer.dis_lr_schedule = None
        trainer.vae_encode = lambda images: images
        return Players(generator, discriminator, of_G, of_D, trainer)

    def loop(players: Players, batches: Any) -> None:
        trainer = players.whole
        trainer.gen_optimizer, trainer.dis_optimizer = players.generator_optimizer, players.discriminator_optimizer
        for batch in batches:
            for step in (0, 1):  # one of D, one of G
                losses, _ = trainer.training_step(step, **trainer.prepare_input(batch))
                losses["loss/total"].backward()
                trainer.optimizer_step(step)

    def given(players: Players, batch: Any) -> tuple[Any, Tensor, Tensor]:
        """Return what is drawn for a step, and where the fakes start and real ones are."""
        drawn = _Names(players.whole.prepare_input(batch))
        between = players.whole.interpolate
        source = between(drawn.latents, drawn.noises_src, drawn.timesteps_src)
        return drawn, source, between(drawn.latents, drawn.noises_tgt, drawn.timesteps_tgt)

    def logits(players: Players, drawn: Any, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        """Return D's logits on real, fake, and noised ones of both, whose gradient goes to D alone."""
        size, share = len(real), _share(len(real), config)
        noised_real, noised_fake = (
            images[:share].detach() + config.adversarial.gp_eps * noise[:share]
            for images, noise in ((real, drawn.noises_r1), (fake, drawn.noises_r2))
        )

        def repeated(x: Tensor) -> Tensor:
            return torch.cat([x, x, x[:share], x[:share]])

        joint = torch.cat([real, fake, noised_real, noised_fake])
        found: Tensor = players.discriminator(joint, repeated(drawn.labels), repeated(drawn.timesteps_tgt))
        return found.split([size, size, share, share])

    def of_D(drawn: Any, real: Tensor, fake: Tensor, noised_real: Tensor, noised_fake: Tensor) -> Tensor:
        terms, share = config.adversarial, len(noised_real)
        weighting = terms.gp_scale * _weighting(drawn)[:share] / terms.gp_eps**2
        loss = softplus(fake - real).mean()
        for noised, at in ((noised_real, real), (noised_fake, fake)):
            loss = loss + (weighting * (noised - at[:share]).square()).mean()
        return loss + terms.cp_scale * (real + fake).square().mean()

    def transport(drawn: Any, fake: Tensor, source: Tensor) -> Tensor:
        apart = (fake - source).square().mean([1, 2, 3])
        return (config.adversarial.ot_scale / _weighting(drawn) * apart).mean()

    def ours(players: Players, batches: Any) -> None:
        for batch in batches:
            players.zero_grad()
            drawn, source, real = given(players, batch)
            fake = players.generator(source, drawn.labels, drawn.timesteps_src, drawn.timesteps_tgt)
            leaf = osgan.tap(fake)
            r, f, *noised = logits(players, drawn, real, leaf)
            osgan.backward(
                leaf,
                of_D(drawn, r, f, *noised),
                softplus(r - f).mean(),
                extra=transport(drawn, fake, source),
                logits=((r, *noised), f),
                weight=_like(players.whole.grad_norm),
            )
            for network in (players.discriminator, players.generator):
                nn.utils.clip_grad_norm_(network.parameters(), config.training.gradient_clip)
            players.update()

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        drawn, source, real = given(players, batch)
        fake = players.generator(source, drawn.labels, drawn.timesteps_src, drawn.timesteps_tgt)
        d_loss = of_D(drawn, *logits(players, drawn, real, fake.detach()))
        at = drawn.labels, drawn.timesteps_tgt
        r, f = players.discriminator(real, *at), players.discriminator(players.whole.grad_norm(fake), *at)
        return d_loss, softplus(r - f).mean() + transport(drawn, fake, source)

    terms = config.adversarial
    case = LoopCase(
        name="AFM B/2, one step",
        loss=f"relativistic, approximate R1 and R2 of {terms.gp_scale} on {terms.gp_bsz_ratio:g} of the batch, "
        "centred logits, optimal transport, normalised gradient",
        batch_size=settings.batch_size,
        about={
            "architecture": f"DiT, {networks['depth']} blocks",
            "width": settings.width,
            "image": f"{CHANNELS} x {settings.resolution} x {settings.resolution} latents",
        },
        file=FILE,
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, one backward pass through D")},
        losses=losses,
        batches=[_latents(settings, seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )
    return [case]


class _Names(dict[str, Any]):
    """Values by their names, as attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def _share(size: int, config: Any) -> int:
    """Return how many of a batch are penalised."""
    return max(round(size * config.adversarial.gp_bsz_ratio), 1)


def _weighting(drawn: Any) -> Tensor:
    apart: Tensor = drawn.timesteps_src - drawn.timesteps_tgt
    return apart.abs().clamp_min(0.001)


def _like(norm: Any) -> osgan.GradientNormalization:
    """Return our normalisation with the settings of theirs, over the very average that theirs keeps."""
    ours = osgan.GradientNormalization(norm.ema_decay, norm.target_scale, eps=norm.eps)
    ours.average = norm.square_avg
    return ours


@torch.no_grad()
def _draw_what_is_0(*networks: nn.Module) -> None:
    for network in networks:
        for parameter in network.parameters():
            if parameter.requires_grad and not parameter.any():
                nn.init.normal_(parameter, std=0.1)


def _classes(path: Path) -> tuple[type[nn.Module], type[nn.Module]]:
    """Return the classes of G and D."""
    folder = path / "models" / "afm" / "dit"
    try:
        with importing(path / DIT):
            generator, discriminator = (
                importlib.import_module(f"models.afm.dit.{name}") for name in ("generator", "discriminator")
            )
    except NotImplementedError:
        raise InputError(
            f"{path / DIT} is a placeholder: put models.py of https://github.com/facebookresearch/DiT in its place, as "
            "the README of the checkout says"
        ) from None
    return (
        needed(generator, "Generator", folder / "generator.py"),
        needed(discriminator, "Discriminator", folder / "discriminator.py"),
    )


def _latents(settings: Settings, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = settings.batch_size, CHANNELS, settings.resolution, settings.resolution
    latents = torch.randn(shape, generator=generator)
    labels = torch.randint(CLASSES, (settings.batch_size,), generator=generator)
    return {"image": latents.to(settings.device), "label": labels.to(settings.device)}


def _networks(path: Path, settings: Settings) -> dict[str, Any]:
    """Return what both networks are built with."""
    options = _read(path / NETWORKS)
    options.pop("__object__", None)
    if "depth" not in options:
        raise InputError(f"{path / NETWORKS} lacks depth, which the adapter looks for")
    options |= {"hidden_size": settings.width, "num_heads": max(1, settings.width // OF_A_HEAD)}
    return options | {"input_size": settings.resolution, "in_channels": CHANNELS, "num_classes": CLASSES}


def _config(file: Path) -> Any:
    """Return the settings of a run, as far as a step reads them."""
    found = _read(file)
    try:
        values = found["exp"]
        terms, optimizer = (_filled(found[part], values) for part in ("adversarial", "optimizer"))
        numbers = ("gp_scale", "gp_bsz_ratio", "gp_eps", "ot_scale", "cp_scale")
        terms |= {name: float(terms[name]) for name in numbers}
        optimizer |= {name: float(optimizer[name]) for name in ("gen_lr", "dis_lr", "eps", "weight_decay")}
        if values["pred"] != "x" or terms["grad_norm"] is not True:
            raise InputError(f"{file}: the adapter was written for exp.pred x and adversarial.grad_norm True")
        _ = optimizer["betas"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} lacks a setting that the adapter looks for: {error!r}") from None
    clip = _Names(gradient_clip=math.inf, dis_gradient_clip=math.inf)
    return _Names(training=clip, gen=_Names(pred_type="x"), adversarial=terms, optimizer=optimizer)


def _filled(part: dict[str, Any], values: dict[str, Any]) -> _Names:
    """Put the values of `exp` in where a part of the settings names them."""
    found = _Names(part)
    for name, value in part.items():
        if isinstance(value, str) and (reference := re.fullmatch(r"\$\{exp\.(\w+)\}", value)):
            found[name] = values[reference[1]]
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; the adapter needs this file of the checkout") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {error}") from None
    return found


PEER = Peer(
    key="adversarial-flow",
    title="Adversarial Flow Models",
    url="https://github.com/ByteDance-Seed/Adversarial-Flow-Models",
    recognised_by=(FILE, "grad_norm.py", CONFIG),
    batch_size=32,
    width=768,
    resolutions=(32, 16),
    cpu_batch_size=8,
    cpu_width=64,
    cpu_resolution=16,
    open=open_checkout,
)
