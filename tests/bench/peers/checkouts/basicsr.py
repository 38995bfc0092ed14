"""A checkout of a few lines of our own, in the shape of BasicSR's files."""

MODELS = """
import torch
from torch import nn
from torch.nn.functional import interpolate

class G(nn.Module):
    def __init__(self, opt):
        super().__init__()
        num_feat = opt["num_feat"]
        self.layers = nn.Sequential(nn.Conv2d(3, num_feat, 3, 1, 1), nn.ReLU(), nn.Conv2d(num_feat, 3, 3, 1, 1))
    def forward(self, x):
        return self.layers(interpolate(x, scale_factor=4))

def d(num_feat):
    layers = nn.Conv2d(3, num_feat, 8, 8), nn.BatchNorm2d(num_feat), nn.LeakyReLU(), nn.Conv2d(num_feat, 1, 1)
    return nn.Sequential(*layers)

class GANLoss(nn.Module):
    def forward(self, logits, is_real, is_disc=False):
        loss = nn.functional.softplus(-logits if is_real else logits).mean()
        return loss if is_disc else 0.1 * loss

class Model:
    def __init__(self, opt):
        assert not opt["path"] and "perceptual_opt" not in opt["train"]
        self.opt = opt
        self.net_g = G(opt["network_g"])
        self.net_d = d(opt["network_d"]["num_feat"])
        self.cri_pix, self.cri_gan = nn.L1Loss(), GANLoss()
        self.ema_decay = 0.5
        self.averages = 0
        self.optimizer_g, self.optimizer_d = (torch.optim.Adam(n.parameters()) for n in (self.net_g, self.net_d))
    def model_ema(self, decay):
        self.averages += 1
    def feed_data(self, data):
        self.lq, self.gt = data["lq"], data["gt"]
    def optimize_parameters(self, step):
        self.net_d.requires_grad_(False)
        self.optimizer_g.zero_grad()
        fake = self.net_g(self.lq)
        (self.cri_pix(fake, self.pixels()) + self.of_g(fake)).backward()
        self.optimizer_g.step()
        self.net_d.requires_grad_(True)
        self.optimizer_d.zero_grad()
        self.of_d(fake.detach()).backward()
        self.optimizer_d.step()
        self.model_ema(self.ema_decay)
"""

OPTIONS = """
network_g: {type: RRDBNet, num_feat: 64, num_block: 2}
network_d: {type: UNetDiscriminatorSN, num_feat: 64}
path: {pretrain_network_g: nowhere}
train: {perceptual_opt: {type: PerceptualLoss}}
"""

FILES = {
    "basicsr/__init__.py": "from .version import __version__\n",
    "basicsr/base.py": MODELS,
    "basicsr/models/__init__.py": "",
    "basicsr/models/esrgan_model.py": """
import cv2
from basicsr.base import Model

class ESRGANModel(Model):
    def pixels(self):
        return self.gt
    def of_g(self, fake):
        real, fake = self.net_d(self.gt).detach(), self.net_d(fake)
        return (self.cri_gan(real - fake.mean(), False) + self.cri_gan(fake - real.mean(), True)) / 2
    def of_d(self, fake):
        real, fake = self.net_d(self.gt), self.net_d(fake)
        loss = self.cri_gan(real - fake.mean().detach(), True, is_disc=True)
        return 0.5 * loss + 0.5 * self.cri_gan(fake - real.mean().detach(), False, is_disc=True)
""",
    "basicsr/models/realesrgan_model.py": """
import cv2
import torch
from basicsr.base import Model

class RealESRGANModel(Model):
    def feed_data(self, data):
        super().feed_data(data)
        self.kernel = torch.FloatTensor(cv2.getGaussianKernel(51, 0)).cuda()
        self.gt_usm = self.gt * self.kernel.max()
    def pixels(self):
        return self.gt_usm
    def of_g(self, fake):
        return self.cri_gan(self.net_d(fake), True)
    def of_d(self, fake):
        losses = [self.cri_gan(self.net_d(x), x is self.gt, is_disc=True) for x in (self.gt, fake)]
        return losses[0] + losses[1]
""",
    "options/train/ESRGAN/train_ESRGAN_x4.yml": OPTIONS,
    "options/train/RealESRGAN/train_realesrgan_x4plus.yml": "l1_gt_usm: true\ngan_gt_usm: false\n" + OPTIONS,
}
