"""A checkout of a few lines of our own, in the shape of GAT's files."""

FILES = {
    "utils.py": "def load_encoders(kind):\n    1 / 0\n",
    "dataset.py": "class CustomDataset:\n    pass\n",
    "models/generator.py": """
import torch
from timm.models.vision_transformer import Mlp, PatchEmbed
from torch import nn
from models.rotary import Rotary

class GAT(nn.Module):
    def __init__(self, input_size, patch_size, hidden_size, num_classes, latent_size=6, depth=4, **others):
        super().__init__()
        self.latent_size, self.grid = latent_size, input_size // patch_size
        self.embed = PatchEmbed(input_size, patch_size, 4, hidden_size, bias=True)
        self.place = nn.Parameter(torch.randn(1, self.embed.num_patches, hidden_size), requires_grad=False)
        self.classes, self.style = nn.Embedding(num_classes, latent_size), nn.Linear(latent_size, hidden_size)
        self.rotary = Rotary(hidden_size)
        self.blocks = nn.ModuleList([Mlp(hidden_size, 2 * hidden_size, nn.SiLU, 0) for _ in range(4)])
        self.last = nn.ModuleList([nn.ConvTranspose2d(hidden_size, 4, patch_size, patch_size) for _ in range(4)])
        self.register_buffer("average", torch.zeros(latent_size))
        self.averaged = 0
    def forward(self, x, y, z, update_ema=False, multiscale=False):
        style = z * (1 + self.classes(y))
        if update_ema:
            self.average.lerp_(style.detach().mean(0), 0.1)
            self.averaged += 1
        x, images, total = self.place + 0 * self.embed(x), [], 0
        for block, last in zip(self.blocks, self.last):
            x = x + torch.utils.checkpoint.checkpoint(block, self.rotary(x) * self.style(style)[:, None],
                                                      use_reentrant=False)
            total = total + last(x.mT.unflatten(-1, (self.grid, self.grid)))
            images.append(total)
        self.recent_x_std = x.std()
        return torch.stack(images) if multiscale else images[-1]
""",
    "models/rotary.py": """
import torch
from einops import rearrange, repeat
from torch import nn

class Rotary(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.register_buffer("angles", repeat(torch.rand(width // 2), "... n -> ... (n r)", r=2))
    @torch.compile(fullgraph=False, options={"an option": "that no compiler knows"})
    def forward(self, x):
        first, second = rearrange(x, "... (d r) -> ... d r", r=2).unbind(-1)
        turned = rearrange(torch.stack([-second, first], -1), "... d r -> ... (d r)")
        return x * self.angles.cos() + turned * self.angles.sin()
""",
    "models/discriminator.py": """
import torch
from timm.models.vision_transformer import PatchEmbed
from torch import nn

class GATD(nn.Module):
    def __init__(self, input_size, patch_size, hidden_size, num_classes, cmap_dim, **others):
        super().__init__()
        self.embed = PatchEmbed(input_size, patch_size, 16, hidden_size, bias=True)
        self.place = nn.Parameter(torch.randn(1, self.embed.num_patches, hidden_size), requires_grad=False)
        self.last, self.classes = nn.Linear(hidden_size, cmap_dim), nn.Embedding(num_classes, cmap_dim)
    def forward(self, x, y):
        x = torch.tanh(self.embed(torch.cat(list(x), dim=1)) + self.place).mean(1)
        self.recent_x_std = x.std()
        return (self.last(x) * self.classes(y)).sum(1, keepdim=True)
""",
    "losses/__init__.py": "from .Rp_loss import RpGANLoss\n",
    "losses/diffaug.py": """
import torch

def DiffAugment(x, prob=1.0, policy="", aug_params=None):
    params = aug_params
    if params is None:
        shift = torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
        params = {"color": [[shift, x.mean([1, 2, 3], keepdim=True)]]}
    shift, mean = params["color"][0]
    return (x - mean) * (0.5 + shift) + mean, params
""",
    "losses/Rp_loss.py": """
import torch
from torch.nn.functional import softplus
from losses.diffaug import DiffAugment as aug

class RpGANLoss:
    policy, aug_prob, approximated_GP_std = "color", 1.0, 0.01
    def __init__(self, encoders, accelerator, r1_gamma, r1_every, r2_gamma, r2_every, approximate):
        assert approximate and encoders is None and r1_every == r2_every == 1
        self.r1_gamma, self.r2_gamma = r1_gamma, r2_gamma
    def apply_gaussian_list_cumulative(self, xs, seed_noise=None):
        seed_noise = seed_noise or [torch.randn_like(x) for x in xs]
        return torch.stack([x + 0.1 * (3 - at) * n for at, (x, n) in enumerate(zip(xs, seed_noise))]), seed_noise
    def drawn(self, generator, images, kwargs):
        if "z" not in kwargs:
            kwargs["z"] = torch.randn(len(images), generator.module.latent_size, device=images.device,
                                      dtype=images.dtype)
            kwargs["x"] = torch.randn_like(images)
        return kwargs
    def seen(self, fakes, images):
        last, params = aug(fakes[-1], prob=self.aug_prob, policy=self.policy)
        fake = torch.stack([*(aug(x, aug_params=params)[0] for x in fakes[:-1]), last])
        real, real_params = aug(images, prob=self.aug_prob, policy=self.policy)
        fake, fake_noise = self.apply_gaussian_list_cumulative(fake)
        real, real_noise = self.apply_gaussian_list_cumulative(real.expand(4, *real.shape))
        return (real, real_params, real_noise), (fake, params, fake_noise)
    def step_disc(self, generator, discriminator, ema, images, raw_images, global_step, model_kwargs=None):
        kwargs = self.drawn(generator, images, model_kwargs)
        fakes = generator(multiscale=True, **kwargs).detach()
        real, fake = self.seen(fakes, images)
        logits = [discriminator(side[0], y=kwargs["y"]) for side in (real, fake)]
        loss = softplus(logits[1] - logits[0]).mean(-1)
        for gamma, (_, params, noise), at, pred in (
            (self.r1_gamma, real, [images], logits[0]), (self.r2_gamma, fake, fakes, logits[1])
        ):
            moved = [aug(x + torch.randn_like(x) * self.approximated_GP_std, aug_params=params)[0] for x in at]
            moved = torch.stack(moved * (4 // len(moved)))
            near = discriminator(self.apply_gaussian_list_cumulative(moved, noise)[0], y=kwargs["y"])
            loss = loss + gamma / 2 * ((pred - near) / self.approximated_GP_std).pow(2).mean(-1)
        return loss, {"disc_loss": loss}, {}
    def step_gen(self, generator, discriminator, ema, images, raw_images, global_step, model_kwargs=None):
        kwargs = self.drawn(generator, images, model_kwargs)
        (real, *_), (fake, *_) = self.seen(generator(update_ema=True, multiscale=True, **kwargs), images)
        loss = softplus(discriminator(real, y=kwargs["y"]).detach() - discriminator(fake, y=kwargs["y"])).mean(-1)
        return loss, {}, {}
""",
    "train.py": """
import argparse
import torch
import torch.utils.checkpoint
import wandb
from accelerate import Accelerator
from accelerate.logging import get_logger
from diffusers.models import AutoencoderKL
from tqdm.auto import tqdm
from dataset import CustomDataset
from losses import RpGANLoss
from models.discriminator import GATD
from models.generator import GAT
from utils import load_encoders

logger = get_logger(__name__)

@torch.no_grad()
def update_ema(ema_model, model):
    for average, p in zip(ema_model.parameters(), model.parameters()):
        average.lerp_(p, 0.001)

def main(args):
    accelerator = Accelerator()
    for epoch in range(args.epochs):
        for raw_image, x, y in train_dataloader:
            raw_image, x, y = raw_image.to(device), x.to(device), y.to(device)
            model_kwargs = dict(y=y)
            with accelerator.accumulate(discriminator):
                discriminator.module.requires_grad_(True)
                loss, loss_dict, _ = loss_fn.step_disc(
                    generator, discriminator, None, x, raw_image, global_step, model_kwargs)
                accelerator.backward(loss.mean())
                accelerator.clip_grad_norm_(discriminator.parameters(), args.max_grad_norm)
                optimizerD.step()
                optimizerD.zero_grad(set_to_none=True)
                discriminator.module.requires_grad_(False)
            with accelerator.accumulate(generator):
                generator.module.requires_grad_(True)
                loss, _, extras = loss_fn.step_gen(
                    generator, discriminator, None, x, raw_image, global_step, model_kwargs)
                accelerator.backward(loss.mean())
                accelerator.clip_grad_norm_(generator.parameters(), args.max_grad_norm)
                optimizerG.step()
                optimizerG.zero_grad(set_to_none=True)
                update_ema(ema, generator)
            progress_bar.update(1)
            global_step += 1
            for steps in (args.eval_steps, args.checkpointing_steps, args.latest_checkpointing_steps):
                assert global_step % steps
            assert global_step > 1 and global_step % args.sampling_steps
            logs = {name: accelerator.gather(value.mean()).item() for name, value in loss_dict.items()}
            logs["x_last_std"] = generator.module.recent_x_std.item() + discriminator.module.recent_x_std.item()
            progress_bar.set_postfix(**logs)
            accelerator.log(logs | {"time": progress_bar.format_dict["elapsed"]}, step=global_step)
            if global_step >= args.max_train_steps:
                break

def parse_args(input_args=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--exp-name", required=True)
    parser.add_argument("--enc-type", default="dinov2-vit-b")
    for name in ("fused-attn", "qk-norm"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=True)
    for name, value in {"R1_gamma": 0.1, "R2_gamma": 0.1, "adam-beta1": 0.0, "adam-beta2": 0.99,
                        "adam-weight-decay": 0.0, "adam-epsilon": 1e-8, "max-grad-norm": 1.0,
                        "learning-rate": 5e-5}.items():
        parser.add_argument(f"--{name}", type=float, default=value)
    for name in ("R1_every", "R2_every", "sampling-steps", "eval-steps", "checkpointing-steps",
                 "latest-checkpointing-steps", "max-train-steps"):
        parser.add_argument(f"--{name}", type=int, default=1)
    return parser.parse_args(input_args)
""",
}
