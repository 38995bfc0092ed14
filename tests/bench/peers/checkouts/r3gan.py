"""A checkout of a few lines of our own, in the shape of R3GAN's files."""

FILES = {
    "R3GAN/Trainer.py": "",
    "dnnlib/__init__.py": "class EasyDict(dict):\n    __getattr__ = dict.__getitem__\n",
    "training/__init__.py": "",
    "training/networks.py": """
from torch import nn

class Plain(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)
    def forward(self, x, c=None):
        return self.layers(x)

class Generator(nn.Module):
    def __init__(self, NoiseDimension, WidthPerStage, **others):
        super().__init__()
        self.z_dim = NoiseDimension
        self.Model = Plain(nn.Linear(NoiseDimension, 3 * 32 * 32), nn.Unflatten(1, (3, 32, 32)))
    def forward(self, x, c):
        return self.Model(x, c)

class Discriminator(nn.Module):
    def __init__(self, WidthPerStage, **others):
        super().__init__()
        self.Model = Plain(nn.Conv2d(3, WidthPerStage[0], 8, 8), nn.Softplus(), nn.Flatten(), nn.LazyLinear(1),
                           nn.Flatten(0))
        import torch
        self.Model(torch.zeros(1, 3, 32, 32))
    def forward(self, x, c):
        return self.Model(x, c)
""",
    "training/loss.py": """
import torch
from torch.nn.functional import softplus

class R3GANLoss:
    def __init__(self, G, D):
        self.G, self.D = G, D
    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gamma, gain):
        fake = self.G(gen_z, real_c)
        if phase == "G":
            return softplus(self.D(real_img, real_c) - self.D(fake, real_c)).mean().backward()
        penalty, logits = 0, []
        for images in (real_img, fake):
            images = images.detach().requires_grad_()
            logits.append(self.D(images, real_c))
            slope, = torch.autograd.grad(logits[-1].sum(), images, create_graph=True)
            penalty = penalty + slope.square().sum((1, 2, 3))
        (softplus(logits[1] - logits[0]) + gamma / 2 * penalty).mean().backward()
""",
    "training/training_loop.py": """
import psutil
import torch
from pkg_resources import parse_version

assert parse_version(torch.__version__) >= parse_version("1.11.0a")

def training_loop(batch_size, rank=0):
    device = torch.device("cuda", rank)
    training_set_iterator = iter([])
    while True:
        given = [(*next(training_set_iterator), torch.randn(batch_size, G.z_dim, device=device)) for _ in phases]
        for phase, (img, c, z) in zip(phases, given):
            img = img / 127.5 - 1
            phase.opt.zero_grad(set_to_none=True)
            phase.module.requires_grad_(True)
            gamma = gamma_scheduler["base_value"]
            loss.accumulate_gradients(phase=phase.name, real_img=img, real_c=c, gen_z=z, gamma=gamma, gain=1)
            phase.module.requires_grad_(False)
            for g in phase.opt.param_groups:
                g["betas"] = (0, 0.9)
            phase.opt.step()
        list(G_ema.parameters())[0].copy_(list(G.parameters())[0])
        cur_nimg += batch_size
        if cur_tick and cur_nimg - tick_start_nimg < kimg_per_tick:
            continue
        raise AssertionError("no tick is reached")
""",
}
