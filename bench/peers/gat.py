"""GAT (hse1032): a transformer GAN on latents, with R1 and R2 by finite differences, by the loop of its `train.py`.

G gives an image at four depths, D sees all four with more noise on the early ones, after one augmentation. The loop
over batches of `main` is compiled as it stands; what it works on is built here from its classes.
"""

import copy
import importlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils._pytree import tree_map

import osgan
from bench.peers.imports import function, importing, load_script, needed, split, stand_in
from bench.peers.peer import Changes, LoopCase, OurSteps, Peer, Players, Settings
from bench.peers.vision_transformer import LAYERS
from osgan.copies import randomness_kept
from osgan.errors import InputError

CHANNELS = 4
CLASSES = 1000
DEPTH = 12
PATCH = 2
OF_A_HEAD = 64
"""Channels."""
OWN_WIDTH = 768
LOGIT_WIDTH = 2048
"""Of the products of token and class whose sum is D's logit, at their own width."""
LEARNING_RATE = 2e-4
NUM_BATCHES = 4
NEVER = 10**12


def open_checkout(path: Path, settings: Settings, changes: Changes) -> list[LoopCase]:
    """Return the one case: B/2 networks, `width` wide in all tokens, on latents of `resolution`."""
    why = "only data, logs and evaluation use it"
    stand_in({name: [name] for name in ("accelerate", "diffusers", "tqdm", "wandb")}, changes, why)
    stand_in({"timm": ["timm"]}, changes, "the networks take these layers from it", **LAYERS)
    stand_in(
        {"einops": ["einops"]}, changes, "the networks pair and repeat numbers by it", rearrange=paired, repeat=repeated
    )
    file = path / "train.py"
    with mock.patch.object(torch, "compile", _left_as_it_is):
        module = load_script(file, path, changes)
        with importing(file):
            generator_file, discriminator_file, loss_file = (
                importlib.import_module(name) for name in ("models.generator", "models.discriminator", "losses.Rp_loss")
            )
    class_of_G = needed(generator_file, "GAT", path / "models" / "generator.py")
    class_of_D = needed(discriminator_file, "GATD", path / "models" / "discriminator.py")
    loss_class = needed(loss_file, "RpGANLoss", path / "losses" / "Rp_loss.py")
    augment = needed(loss_file, "aug", path / "losses" / "Rp_loss.py")
    update_average, parse_args = (needed(module, name, file) for name in ("update_ema", "parse_args"))
    _, over_batches, _ = split(file, function(file, "main").body, "train_dataloader")
    options = parse_args(["--exp-name", "peer", "--enc-type", "None"])
    options.learning_rate, options.max_grad_norm = LEARNING_RATE, float("inf")
    for name in ("sampling_steps", "eval_steps", "checkpointing_steps", "latest_checkpointing_steps"):
        setattr(options, name, NEVER)
    options.max_train_steps = NEVER
    changes.patch("The loop over batches is executed with batches on the device in place of its loader.")
    changes.patch("What the loop works on is built here from its classes, as `main` does it for one process.")
    changes.patch("accelerate's Accelerator is a plain one for float32: no mixed precision, no processes, no log.")
    changes.patch("torch.compile of the rotary embedding is passed over, on both sides.")
    changes.patch("--max-grad-norm is infinite, not 1: the norm is taken, and gradients are compared as they are.")
    changes.patch("step_gen is not given step_disc's latents but draws as step_disc does: from one state, the same.")
    changes.remark("--enc-type None: RpGANLoss, without the features of DINOv2, whose weights would be downloaded.")
    changes.remark("Its two updates draw latents, augmentation and noise each; ours once, for both losses.")
    changes.remark("Its loop waits for the device with .item() for every number of its log, which ours does not.")
    changes.remark("Both sides checkpoint every block, as its networks do: a backward pass repeats the forward pass.")
    changes.remark("Its loop lets all weights of a player take gradients, the position embedding too; so does ours.")
    changes.remark("Ours keeps its moving averages: of G, and of the latents' embedding by class.")
    changes.remark("The latents and their classes are noise.")
    width = settings.width
    shared = {"input_size": settings.resolution, "num_classes": CLASSES, "z_dims": [0], "depth": DEPTH}
    shared |= {"patch_size": PATCH, "hidden_size": width, "num_heads": max(1, width // OF_A_HEAD)}
    shared |= {"fused_attn": options.fused_attn, "qk_norm": options.qk_norm}

    class Anew(loss_class):  # type: ignore[misc, valid-type]
        def step_gen(self, *given: Any) -> Any:
            *others, names = given
            return super().step_gen(*others, {"y": names["y"]})

    def build() -> Players:
        generator = _Parallel(class_of_G(**shared).to(settings.device))
        discriminator = _Parallel(class_of_D(cmap_dim=LOGIT_WIDTH * width // OWN_WIDTH, **shared).to(settings.device))
        of_G, of_D = (
            torch.optim.AdamW(
                network.parameters(),
                options.learning_rate * OWN_WIDTH / width,
                betas=(options.adam_beta1, options.adam_beta2),
                weight_decay=options.adam_weight_decay,
                eps=options.adam_epsilon,
            )
            for network in (generator, discriminator)
        )
        average = copy.deepcopy(generator.module).eval().requires_grad_(False)
        accelerator = _Accelerator()
        loss = Anew(
            encoders=None,
            accelerator=accelerator,
            r1_every=options.R1_every,
            r1_gamma=options.R1_gamma,
            r2_every=options.R2_every,
            r2_gamma=options.R2_gamma,
            approximate=True,
        )
        names = vars(module) | {"args": options, "device": settings.device, "accelerator": accelerator}
        names |= {"generator": generator, "discriminator": discriminator, "ema": average, "loss_fn": loss}
        names |= {"progress_bar": _ProgressBar(), "global_step": 1}
        return Players(generator, discriminator, of_G, of_D, names)

    def loop(players: Players, batches: Any) -> None:
        names = players.whole
        names |= {"optimizerG": players.generator_optimizer, "optimizerD": players.discriminator_optimizer}
        names["train_dataloader"] = batches
        exec(over_batches, names)

    def start(players: Players, images: Tensor, labels: Tensor, *, update: bool) -> Tensor:
        """Let all weights take gradients, and return the fakes (N, depths, channels, size, size)."""
        players.generator.requires_grad_(True)
        players.discriminator.requires_grad_(True)
        network: Any = players.generator.module
        z = torch.randn(len(images), network.latent_size, device=images.device, dtype=images.dtype)
        x = torch.randn_like(images)
        fakes: Tensor = network(x=x, y=labels, z=z, update_ema=update, multiscale=True)
        return fakes.transpose(0, 1)

    def augmented(images: list[Tensor], loss: Any, drawn: Any = None) -> tuple[Tensor, Any]:
        """Augment images of all depths in the same way, as it was drawn or as is drawn for the last."""
        last, found = augment(images[-1], prob=loss.aug_prob, policy=loss.policy, aug_params=drawn)
        return torch.stack([*(augment(x, aug_params=found, policy=loss.policy)[0] for x in images[:-1]), last]), found

    def logits(players: Players, real: Tensor, fake: Tensor, labels: Tensor) -> list[Tensor]:
        """Return D's logits on real, fake, and noised ones of both, whose gradient goes to D alone."""
        loss = players.whole["loss_fn"]
        depths = list(fake.unbind(1))
        of_fake, drawn_for_fake = augmented(depths, loss)
        of_real, drawn_for_real = augmented([real], loss)
        of_real = of_real.repeat(len(depths), 1, 1, 1, 1)
        of_fake, noise_of_fake = loss.apply_gaussian_list_cumulative(of_fake)
        of_real, noise_of_real = loss.apply_gaussian_list_cumulative(of_real)
        # contrast is about the fake's own mean, by which the penalty would reach the leaf past the fake's logit
        drawn_for_fake = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, drawn_for_fake)
        deviation = loss.approximated_GP_std

        def noised(images: list[Tensor], drawn: Any) -> Tensor:
            moved = [x.detach() + deviation * torch.randn_like(x) for x in images]
            return augmented(moved, loss, drawn)[0]

        near_real = noised([real], drawn_for_real).repeat(len(depths), 1, 1, 1, 1)
        near_fake = noised(depths, drawn_for_fake)
        near_real, _ = loss.apply_gaussian_list_cumulative(near_real, noise_of_real)
        near_fake, _ = loss.apply_gaussian_list_cumulative(near_fake, noise_of_fake)
        joint = torch.cat([of_real, of_fake, near_real, near_fake], dim=1)
        found: Tensor = players.discriminator(joint, y=labels.repeat(4))
        return list(found.chunk(4))

    def of_D(loss: Any, real: Tensor, fake: Tensor, near_real: Tensor, near_fake: Tensor) -> Tensor:
        d_loss = softplus(fake - real).mean()
        for gamma, at, near in ((loss.r1_gamma, real, near_real), (loss.r2_gamma, fake, near_fake)):
            d_loss = d_loss + gamma / 2 * ((at - near) / loss.approximated_GP_std).square().mean()
        return d_loss

    def ours(players: Players, batches: Any) -> None:
        for _, images, labels in batches:
            players.zero_grad()
            leaf = osgan.tap(start(players, images, labels, update=True))
            r, f, *near = logits(players, images, leaf, labels)
            d_loss = of_D(players.whole["loss_fn"], r, f, *near)
            osgan.backward(leaf, d_loss, softplus(r - f).mean(), logits=((r, *near), f))
            for network in (players.discriminator, players.generator):
                nn.utils.clip_grad_norm_(network.parameters(), options.max_grad_norm)
            players.update()
            update_average(players.whole["ema"], players.generator)

    def losses(players: Players, batch: Any) -> tuple[Tensor, Tensor]:
        _, images, labels = batch
        fake = start(players, images, labels, update=False)
        with randomness_kept(images.device):
            d_loss = of_D(players.whole["loss_fn"], *logits(players, images, fake.detach(), labels))
        r, f, *_ = logits(players, images, fake, labels)
        return d_loss, softplus(r - f).mean()

    case = LoopCase(
        name="GAT-B/2",
        loss=f"rpgan on four depths, augmented, approximate R1 of {options.R1_gamma:g} and R2 of {options.R2_gamma:g}",
        batch_size=settings.batch_size,
        about={
            "architecture": f"GAT, {DEPTH} blocks",
            "width": width,
            "image": f"{CHANNELS} x {settings.resolution} x {settings.resolution} latents",
        },
        file="train.py",
        build=build,
        theirs=loop,
        ours={"ours osgan.backward": OurSteps(ours, "one forward pass, one backward pass through D")},
        losses=losses,
        batches=[_latents(settings, seed) for seed in range(NUM_BATCHES)],
        targets={"theirs": 1.0},
        judged=("ours osgan.backward",),
    )
    return [case]


class _Parallel(nn.Module):
    """What DistributedDataParallel is in one process: the network, a name deeper."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Any, **named: Any) -> Any:
        return self.module(*given, **named)


class _Accelerator:
    sync_gradients = is_main_process = True

    def accumulate(self, _: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, weights: Any, limit: float) -> Tensor:
        return nn.utils.clip_grad_norm_(weights, limit)

    def gather(self, found: Tensor) -> Tensor:
        return found

    def log(self, *_: Any, **__: Any) -> None:
        pass


class _ProgressBar:
    format_dict: ClassVar = {"elapsed": 0.0}

    def update(self, _: int) -> None:
        pass

    def set_postfix(self, **_: Any) -> None:
        pass


def _left_as_it_is(*_: Any, **__: Any) -> Any:
    return lambda function: function


def paired(tensor: Tensor, pattern: str, r: int = 2) -> Tensor:
    """Split the last axis into groups of r, or join the last two: what GAT asks einops.rearrange for."""
    match pattern.split(" -> "):
        case ["... (d r)", "... d r"]:
            return tensor.unflatten(-1, (-1, r))
        case ["... d r", "... (d r)"]:
            return tensor.flatten(-2)
    raise InputError(f"einops.rearrange is asked for {pattern!r}, which its stand-in does not know: pip install einops")


def repeated(tensor: Tensor, pattern: str, r: int) -> Tensor:
    """Repeat every number of the last axis r times: what GAT asks einops.repeat for."""
    if pattern != "... n -> ... (n r)":
        raise InputError(
            f"einops.repeat is asked for {pattern!r}, which its stand-in does not know: pip install einops"
        )
    return tensor.repeat_interleave(r, -1)


def _latents(settings: Settings, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, which no loss here reads, latents and classes."""
    generator = torch.Generator().manual_seed(seed)
    shape = settings.batch_size, CHANNELS, settings.resolution, settings.resolution
    latents = torch.randn(shape, generator=generator)
    labels = torch.randint(CLASSES, (settings.batch_size,), generator=generator)
    return latents.new_zeros(0).to(settings.device), latents.to(settings.device), labels.to(settings.device)


PEER = Peer(
    key="gat",
    title="GAT",
    url="https://github.com/hse1032/GAT",
    recognised_by=("train.py", "losses/Rp_loss.py", "models/discriminator.py"),
    batch_size=32,
    width=OWN_WIDTH,
    resolutions=(32, 16),
    cpu_batch_size=8,
    cpu_width=64,
    cpu_resolution=16,
    open=open_checkout,
)
