"""A script of a few lines of our own, in the shape of PyTorch's DCGAN example."""

EXAMPLE = """
import argparse
import torch
from torch import nn

parser = argparse.ArgumentParser()
for name in ("dataset",):
    parser.add_argument("--" + name)
for name in ("workers", "batchSize", "imageSize", "ngf", "ndf", "ngpu", "manualSeed"):
    parser.add_argument("--" + name, type=int)
opt = parser.parse_args()
torch.manual_seed(opt.manualSeed)
nz = 3
dataloader = [1 / 0] if opt.dataset != "fake" else []

class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3, opt.ndf, 32, 32), nn.BatchNorm2d(opt.ndf), nn.LeakyReLU(0.2), nn.Conv2d(opt.ndf, 1, 2),
            nn.Sigmoid(),
        )
    def forward(self, x):
        return self.main(x).flatten()

netG = nn.Sequential(nn.ConvTranspose2d(nz, 3, 64), nn.Tanh())
netD = Discriminator()
criterion = nn.BCELoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4, betas=(0.5, 0.999))
counted = []

for epoch in range(25):
    for i, data in enumerate(dataloader, 0):
        netD.zero_grad()
        ones = torch.ones(len(data[0]))
        criterion(netD(data[0]), ones).backward()
        fake = netG(torch.randn(len(data[0]), nz, 1, 1))
        criterion(netD(fake.detach()), 0 * ones).backward()
        optimizerD.step()
        netG.zero_grad()
        loss = criterion(netD(fake), ones)
        loss.backward()
        optimizerG.step()
        counted.append((epoch, i))
        print("step", i, loss.item())
    torch.save(netG.state_dict(), "never")
"""

FILES = {"dcgan/main.py": EXAMPLE}
