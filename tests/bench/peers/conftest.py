"""Checkouts of a few lines of our own, in the shape of the peers' files."""

import sys
from textwrap import dedent

import pytest
import torch
from torch import nn

from bench.peers.imports import StandIn
from bench.peers.peer import Changes, Settings
from bench.peers.worker import PEERS
from tests.bench.peers.checkouts import LOOPS, pytorch_dcgan

NETWORKS = """
import torch
from torch import nn

class G(nn.Module):
    def __init__(self, zdim, num_channel, d):
        super().__init__()
        self.zdim = zdim
        self.layer = nn.ConvTranspose2d(zdim, num_channel, 64)
    def weight_init(self, mean, std):
        self.layer.weight.data.normal_(mean, std)
    def forward(self, z):
        return torch.tanh(self.layer(z))

class D(nn.Module):
    def __init__(self, num_channel, d):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(num_channel, d, 8, 8), nn.LeakyReLU(0.2), nn.Conv2d(d, 1, 8))
    def weight_init(self, mean, std):
        self.layers[0].weight.data.normal_(mean, std)
    def forward(self, x):
        return self.layers(x).flatten()
"""

SCRIPT = """
import os
import torch
from torch.nn.functional import softplus
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from utils.reader import load_yaml
from utils.tools import get_model, never_used
from utils.logger import Logger

logger = None

def losses(real, fake):
    return {losses}

def train_epoch_adv(generator, discriminator, train_loader, optimizers, cfg):
    generator.cuda().train()
    discriminator.cuda().train()
    of_g, of_d = optimizers
    total = 0.0
    for x, _ in train_loader:
        x = x.cuda()
        of_g.zero_grad()
        of_d.zero_grad()
        {step}
        total += loss_d.item()
        if logger:
            raise AssertionError("the log is off")
    return total / len(train_loader.dataset)

def train(args):
    cfg = load_yaml(args.cfg)
    logger = Logger(log_root="log", name="x")
    logger.add_text("a", "b")
    os.environ["CUDA_VISIBLE_DEVICES"] = "7"
    loader = DataLoader(datasets.ImageFolder(cfg["data_root"], transform=transforms.ToTensor()), cfg["batch_size"])
    print(len(loader.dataset))
    g = get_model("g", zdim=cfg["zdim"], num_channel=cfg["num_channel"])
    d = get_model("d", num_channel=cfg["num_channel"])
    g.weight_init(0.0, 0.02)
    d.weight_init(0.0, 0.02)
    of_g = torch.optim.Adam(g.parameters(), **cfg["optimizer_g"]["args"])
    of_d = torch.optim.Adam(d.parameters(), **cfg["optimizer_d"]["args"])
    os.makedirs("ckpt/" + logger.log_name, exist_ok=True)
    {call}
"""

ONE_STAGE = """
        fake = generator(torch.randn(len(x), generator.zdim, 1, 1))
        scored = discriminator(fake)
        loss_d, loss_g = losses(discriminator(x), scored)
        gradients = torch.autograd.grad(loss_g, list(generator.parameters()), retain_graph=True)
        loss_d.backward()
        for p, gradient in zip(generator.parameters(), gradients):
            p.grad = gradient
        of_d.step()
        of_g.step()
"""

TWO_STAGE = """
        fake = generator(torch.randn(len(x), generator.zdim, 1, 1))
        loss_d, _ = losses(discriminator(x), discriminator(fake.detach()))
        loss_d.backward()
        of_d.step()
        of_g.zero_grad()
        fake = generator(torch.randn(len(x), generator.zdim, 1, 1))
        losses(discriminator(x), discriminator(fake))[1].backward()
        of_g.step()
"""

LOSSES = {
    "dcgan_asymmetric": "(softplus(-real) + softplus(fake)).mean(), softplus(-fake).mean()",
    "dcgan_symmetric": "(softplus(-real) + softplus(fake)).mean(), -softplus(fake).mean()",
    "wgan_dcgan": "(fake - real).mean(), -fake.mean()",
}

OSGAN = {
    "networks/dcgan.py": NETWORKS,
    "utils/reader.py": "from ruamel.yaml import YAML\n\ndef load_yaml(path):\n    1 / 0\n",
    "utils/logger.py": "from torch.utils.tensorboard import SummaryWriter\n\nclass Logger(SummaryWriter):\n    pass\n",
    "utils/tools.py": (
        "from networks import dcgan\n\n"
        "def get_model(name, d=128, **options):\n    return {'g': dcgan.G, 'd': dcgan.D}[name](d=d, **options)\n"
    ),
    **{
        f"cfgs/{folder}/{name}_one_stage_celeba.yml": (
            "method: dcgan\nzdim: 3\nnum_channel: 3\ngpu_id: 3\n"
            "optimizer_g: {args: {lr: 2e-4, betas: [0.5, 0.999]}}\n"
            "optimizer_d: {args: {lr: 1.35e-5, betas: [0.5, 0.999]}}\n"
        )
        for folder, name in (("dcgan", "dcgan_asymmetric"), ("dcgan", "dcgan_symmetric"), ("wgan", "wgan_dcgan"))
    },
    **{
        f"train_{name}_{scheme}.py": SCRIPT.format(
            losses=losses, step=step.strip(), call="train_epoch_adv(g, d, loader, (of_g, of_d), cfg)"
        )
        for name, losses in LOSSES.items()
        for scheme, step in (("one_stage", ONE_STAGE), ("two_stage", TWO_STAGE))
    },
}

MIMICRY = {
    "torch_mimicry/__init__.py": "from torch_mimicry import nets, training, datasets\n",
    "torch_mimicry/nets/__init__.py": "from torch_mimicry.nets import sngan\n",
    "torch_mimicry/nets/sngan/__init__.py": "",
    "torch_mimicry/nets/sngan/sngan_base.py": """
from torch import nn
from torch.nn.functional import relu
import torch

class Base(nn.Module):
    def fakes(self, n):
        return self(torch.randn(n, self.nz))

class G(Base):
    def train_step(self, real_batch, netD, optG, log_data, device, global_step):
        self.zero_grad()
        loss = -netD(self.fakes(len(real_batch[0]))).mean()
        loss.backward()
        optG.step()
        log_data.add_metric("errG", loss)
        return log_data

class D(nn.Module):
    def train_step(self, real_batch, netG, optD, log_data, device, global_step):
        self.zero_grad()
        real = self(real_batch[0])
        fake = self(netG.fakes(len(real_batch[1])).detach())
        loss = relu(1 - real).mean() + relu(1 + fake).mean()
        loss.backward()
        optD.step()
        log_data.add_metric("errD", loss.item())
        return log_data
""",
    "torch_mimicry/nets/sngan/sngan_32.py": """
from torch import nn
from torch_mimicry.nets.sngan.sngan_base import D, G

class SNGANGenerator32(G):
    def __init__(self, nz=5, ngf=256):
        super().__init__()
        self.nz = nz
        self.layers = nn.Sequential(nn.Linear(nz, ngf), nn.ReLU(), nn.Linear(ngf, 3 * 32 * 32), nn.Tanh())
    def forward(self, z):
        return self.layers(z).view(-1, 3, 32, 32)

class SNGANDiscriminator32(D):
    def __init__(self, ndf=128):
        super().__init__()
        first = nn.utils.parametrizations.spectral_norm(nn.Linear(3 * 32 * 32, ndf))
        self.layers = nn.Sequential(nn.Flatten(), first, nn.LeakyReLU(0.2), nn.Linear(ndf, 1))
    def forward(self, x):
        return self.layers(x)
""",
    "torch_mimicry/training/__init__.py": "from .logger import *\n",
    "torch_mimicry/training/logger.py": "from torch.utils.tensorboard import SummaryWriter\n",
    "torch_mimicry/training/metric_log.py": (
        "class MetricLog:\n    def add_metric(self, name, value):\n        getattr(value, 'item', float)()\n"
    ),
    "torch_mimicry/datasets/__init__.py": "from skimage import io\nimport tensorflow as tf\n",
}

CHECKOUTS = {"osgan": OSGAN, "mimicry": MIMICRY, "pytorch-dcgan": pytorch_dcgan.FILES} | LOOPS


@pytest.fixture
def asymmetric():
    """The text of the asymmetric one-stage script."""
    return OSGAN["train_dcgan_asymmetric_one_stage.py"]


@pytest.fixture
def example():
    """The text of the DCGAN example."""
    return pytorch_dcgan.EXAMPLE


@pytest.fixture
def checkout(tmp_path):
    """Write the checkout of a peer, some files of it replaced; None leaves one out."""

    def write(key, **replaced):
        root = tmp_path / f"checkout-{key}"
        for name, text in (CHECKOUTS[key] | replaced).items():
            if text is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(dedent(text))
        return root

    return write


@pytest.fixture
def open_checkout(monkeypatch, tmp_path):
    """Open a checkout in this process, which is afterwards as it was."""
    modules, finders = dict(sys.modules), list(sys.meta_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(torch.Tensor, "cuda", torch.Tensor.cuda)
    monkeypatch.setattr(nn.Module, "cuda", nn.Module.cuda)
    monkeypatch.chdir(tmp_path)
    places = [str(tmp_path)]

    def open_it(key, root, **settings):
        places.append(str(root))
        peer = PEERS[key]
        changes = Changes()
        defaults = {"device": torch.device("cpu"), "batch_size": 4, "width": 8, "resolution": peer.resolutions[0]}
        return peer.open(root, Settings(**(defaults | settings)), changes), changes

    yield open_it
    for key, module in list(sys.modules.items()):  # not all that is new: PyTorch's own parts cannot be imported twice
        where = " ".join(str(getattr(module, "__dict__", {}).get(name)) for name in ("__file__", "__path__"))
        if isinstance(module, StandIn) or any(place in where for place in places):
            del sys.modules[key]
    for name in modules.keys() - sys.modules.keys():  # what a stand-in had taken the place of
        sys.modules[name] = modules[name]
    sys.meta_path[:] = finders
