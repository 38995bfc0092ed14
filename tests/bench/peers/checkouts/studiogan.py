"""A checkout of a few lines of our own, in the shape of PyTorch-StudioGAN's files."""

FILES = {
    "src/configs/CIFAR10/BigGAN.yaml": "",
    "src/config.py": """
import torch
from types import SimpleNamespace as Names
from utils import losses

class Configurations:
    def __init__(self, file):
        self.DATA, self.MODEL = Names(num_classes=3), Names(z_dim=5, backbone="big_resnet")
        self.LOSS, self.OPTIMIZATION = Names(adv_loss="hinge", d_loss=losses.d_hinge, g_loss=losses.g_hinge), Names()
        self.STYLEGAN, self.MODULES, self.RUN = Names(), Names(), Names()
    def define_optimizer(self, Gen, Dis):
        self.OPTIMIZATION.g_optimizer = torch.optim.Adam(Gen.parameters())
        self.OPTIMIZATION.d_optimizer = torch.optim.Adam(Dis.parameters())
""",
    "src/models/model.py": """
import torch
from torch import nn
from torch.nn.utils import spectral_norm

class G(nn.Module):
    def __init__(self, z_dim, classes):
        super().__init__()
        self.classes, self.layer = nn.Embedding(classes, z_dim), nn.Linear(z_dim, 3 * 32 * 32)
    def forward(self, z, label, eval=False):
        return torch.tanh(self.layer(z * self.classes(label))).view(-1, 3, 32, 32)

class D(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.first, self.last = spectral_norm(nn.Linear(3 * 32 * 32, width)), spectral_norm(nn.Linear(width, 1))
        self.embedding = nn.Embedding(classes, width)
    def forward(self, x, label, adc_fake=False):
        h = torch.relu(self.first(x.flatten(1)))
        return {"h": h, "adv_output": self.last(h).squeeze() + (self.embedding(label) * h).sum(1)}

class Average:
    num = 0
    def update(self, iter):
        self.num += 1

def load_generator_discriminator(DATA, OPTIMIZATION, MODEL, STYLEGAN, MODULES, RUN, device, logger):
    G_, D_ = G(MODEL.z_dim, DATA.num_classes), D(MODEL.d_conv_dim, DATA.num_classes)
    return G_, None, None, D_, None, None, None, Average()
""",
    "src/utils/__init__.py": "",
    "src/utils/misc.py": """
def make_GAN_trainable(Gen, Gen_ema, Dis):
    Gen.train()
    Dis.train()

def track_bn_statistics(module):
    pass
""",
    "src/utils/sample.py": """
import torch

def sample_y(y_sampler, batch_size, num_classes, device):
    return torch.randint(num_classes, (batch_size,), device=device)

def sample_normal(batch_size, z_dim, truncation_factor, device):
    return torch.randn(batch_size, z_dim, device=device)
""",
    "src/utils/losses.py": """
import torch

def d_hinge(real, fake, DDP):
    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()

def g_hinge(fake, DDP):
    return -fake.mean()
""",
    "src/worker.py": """
import wandb
from utils import sample

class WORKER:
    def __init__(self, cfgs, Gen, Dis, ema, Gen_ema, local_rank, global_rank, **others):
        assert global_rank == 1
        vars(self).update(vars(cfgs), Gen=Gen, Dis=Dis, ema=ema, Gen_ema=Gen_ema, device=local_rank)
    def fakes(self):
        n = self.OPTIMIZATION.batch_size
        labels = sample.sample_y("totally_random", n, self.DATA.num_classes, self.device)
        return self.Gen(sample.sample_normal(n, self.MODEL.z_dim, -1.0, self.device), labels), labels
    def turn(self, network, other, optimizer):
        other.requires_grad_(False)
        network.requires_grad_(True)
        optimizer.zero_grad()
    def train_discriminator(self, current_step):
        self.turn(self.Dis, self.Gen, self.OPTIMIZATION.d_optimizer)
        real, labels = next(self.train_iter)
        fake, fake_labels = self.fakes()
        real, fake = self.Dis(real, labels), self.Dis(fake, fake_labels)
        self.LOSS.d_loss(real["adv_output"], fake["adv_output"], DDP=False).backward()
        self.OPTIMIZATION.d_optimizer.step()
    def train_generator(self, current_step):
        self.turn(self.Gen, self.Dis, self.OPTIMIZATION.g_optimizer)
        self.LOSS.g_loss(self.Dis(*self.fakes())["adv_output"], DDP=False).backward()
        self.OPTIMIZATION.g_optimizer.step()
        self.ema.update(current_step)
""",
}
