"""A checkout of a few lines of our own, in the shape of the adversarial flow models' files."""

NETWORK = """
from torch import nn
from models.afm.dit.dit import DiT

class {name}(DiT):
    def __init__(self, use_t=False, **kwargs):
        super().__init__(**kwargs)
        {last}
    def forward(self, x, y, *times):
        x = self.tokens(x, y)
        {out}
"""

FILES = {
    "configs/models/afm/dit/b2.yaml": """
__object__: {path: models.afm.dit.generator}
depth: 1
hidden_size: 768
num_heads: 12
patch_size: 2
""",
    "configs/train/afm/train_afm_1nfe.yaml": """
exp: {gp: 0.25, gpr: 0.25, ot: 0.2, pred: x, lr: 1e-4}
adversarial:
  gp_scale: ${exp.gp}
  gp_bsz_ratio: ${exp.gpr}
  gp_eps: 0.01
  ot_scale: ${exp.ot}
  cp_scale: 0.01
  grad_norm: True
optimizer:
  gen_lr: ${exp.lr}
  dis_lr: ${exp.lr}
  eps: 1e-8
  weight_decay: 0.01
  betas: [0.0, 0.9]
""",
    "models/afm/dit/dit.py": """
import torch
from torch import nn
from timm.models.vision_transformer import Attention, Mlp, PatchEmbed

class DiT(nn.Module):
    def __init__(self, input_size, in_channels, hidden_size, num_heads, depth, patch_size, num_classes):
        super().__init__()
        self.embed = PatchEmbed(input_size, patch_size, in_channels, hidden_size, bias=True)
        place = torch.randn(1, self.embed.num_patches, hidden_size).float()
        self.place = nn.Parameter(place, requires_grad=False)
        self.classes = nn.Embedding(num_classes, hidden_size)
        self.attention = Attention(hidden_size, num_heads=num_heads, qkv_bias=True)
        self.mlp = Mlp(in_features=hidden_size, hidden_features=4 * hidden_size, act_layer=nn.SiLU, drop=0)
        self.gate = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.patch_size = self.embed.patch_size[0]
    def tokens(self, x, y):
        x = self.embed(x) + self.place + self.classes(y)[:, None]
        return x + self.gate * (self.attention(x) + self.mlp(x))
""",
    "models/afm/dit/generator.py": NETWORK.format(
        name="Generator",
        last="self.last = nn.ConvTranspose2d(kwargs['hidden_size'], kwargs['in_channels'], 2, 2)",
        out="return self.last(x.mT.unflatten(-1, (int(x.shape[1] ** 0.5), -1)))",
    ),
    "models/afm/dit/discriminator.py": NETWORK.format(
        name="Discriminator",
        last="self.last = nn.Linear(kwargs['hidden_size'], 1)",
        out="return self.last(x.tanh().mean(1)).view(-1)",
    ),
    "common/__init__.py": "",
    "common/config.py": "import nowhere_to_be_found\n",
    "common/metrics.py": "import nowhere_to_be_found\n",
    "common/persistence.py": "import nowhere_to_be_found\n",
    "common/writers.py": "import nowhere_to_be_found\n",
    "common/gradcapture.py": """
import torch

class GradientCapture(torch.nn.Module):
    def forward(self, x):
        x.register_hook(lambda gradient: setattr(self, "grad", gradient))
        return x
""",
    "grad_norm.py": """
import torch

class GradientNormalization(torch.nn.Module):
    ema_decay, eps, target_scale = 0.9, 1e-8, 1.0
    def __init__(self):
        super().__init__()
        self.register_buffer("square_avg", torch.tensor(0.0))
    def forward(self, x):
        x = x.clone()
        x.register_hook(self.normalized)
        return x
    def normalized(self, gradient):
        self.square_avg.lerp_(gradient.square().sum() * gradient.numel(), 1 - self.ema_decay)
        return gradient * self.target_scale / (self.square_avg.sqrt() + self.eps)
""",
    "train_adversarial_flow_imagenet.py": """
import torch
from kornia.augmentation import RandomErasing
from omegaconf import OmegaConf
from torch.nn.functional import softplus
from tqdm import tqdm
from common.config import create_object
from common.gradcapture import GradientCapture
from common.metrics import ModifiedMetricCollection
from common.persistence import PersistenceMixin
from common.writers import WriterMixin
from grad_norm import GradientNormalization

def get_device():
    return torch.device("cuda", 0)

class AdversarialFlowTrainer(PersistenceMixin, WriterMixin):
    def __init__(self, config, device=get_device()):
        raise AssertionError("it is built without data")
    def prepare_input(self, image_batch):
        latents = self.vae_encode(image_batch["image"].to(get_device()))
        names = "noises_src", "noises_tgt", "noises_r1", "noises_r2"
        ones = torch.ones(len(latents), device=get_device())
        drawn = {name: torch.randn_like(latents) for name in names}
        times = {"timesteps_src": ones, "timesteps_tgt": ones - 1}
        return drawn | times | {"latents": latents, "labels": image_batch["label"].to(get_device())}
    def interpolate(self, latents, noises, timesteps):
        return torch.lerp(latents, noises, timesteps.view(-1, 1, 1, 1))
    def training_step(self, step, *, latents, labels, timesteps_src, timesteps_tgt, **noises):
        terms = self.config.adversarial
        source = self.interpolate(latents, noises["noises_src"], timesteps_src)
        real = self.interpolate(latents, noises["noises_tgt"], timesteps_tgt)
        fake = self.gen(source, labels, timesteps_src, timesteps_tgt)
        for p in self.dis_trainable_params:
            p.requires_grad_(step % 2 == 0)
        if step % 2 == 0:
            n = max(round(len(real) * terms.gp_bsz_ratio), 1)
            fake = fake.detach()
            near = [x[:n] + terms.gp_eps * noises[name][:n] for x, name in ((real, "noises_r1"), (fake, "noises_r2"))]
            logits = [self.dis(x, labels[: len(x)], timesteps_tgt[: len(x)]) for x in (real, fake, *near)]
            loss = softplus(logits[1] - logits[0]).mean()
            for at, moved in ((logits[0], logits[2]), (logits[1], logits[3])):
                loss = loss + terms.gp_scale * ((moved - at[:n]) / terms.gp_eps).square().mean()
            loss = loss + terms.cp_scale * (logits[0] + logits[1]).square().mean()
        else:
            seen = self.grad_norm(self.gen_dis_grad_capture(fake.clone()))
            loss = softplus(self.dis(real, labels, timesteps_tgt) - self.dis(seen, labels, timesteps_tgt)).mean()
            away = self.gen_ot_grad_capture(fake.clone()) - source
            loss = loss + terms.ot_scale * away.square().mean()
        return {"loss/total": loss}, {}
    def optimizer_step(self, step):
        network, optimizer = ((self.dis, self.dis_optimizer), (self.gen, self.gen_optimizer))[step % 2]
        torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.training.gradient_clip)
        optimizer.step()
        self.dis_optimizer.zero_grad()
        self.gen_optimizer.zero_grad()
""",
}
