"""The same loop in one stage, no network changed: dcgan.diff takes seven lines away and puts six in.

`osgan.tap` cuts the fakes off for both losses, so D sees them once; `osgan.backward` stands for all three `.backward()`
and fills .grad of both networks, hence D's step comes after it. D has BatchNorm and the loss is not symmetric, so this
takes two backward passes, exact as they are: the two-stage step has 1.20 times the FLOPs. With nn.GroupNorm(4, out) for
D's BatchNorm, `logits=(output_real, output_fake)` makes it one, and 1.32 times; probabilities do as well as logits.

python -m examples.dcgan.one_stage
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

import osgan

WIDTH, LATENT = 16, 64


def up(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(True))


def down(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2, inplace=True)
    )


def build() -> tuple[nn.Module, nn.Module]:
    netG = nn.Sequential(
        *(nn.ConvTranspose2d(LATENT, 4 * WIDTH, 4, 1, 0, bias=False), nn.BatchNorm2d(4 * WIDTH), nn.ReLU(True)),
        *(up(4 * WIDTH, 2 * WIDTH), up(2 * WIDTH, WIDTH), nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1), nn.Tanh()),
    )
    netD = nn.Sequential(
        *(nn.Conv2d(1, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)),
        *(down(WIDTH, 2 * WIDTH), down(2 * WIDTH, 4 * WIDTH)),
        *(nn.Conv2d(4 * WIDTH, 1, 4, 1, 0), nn.Flatten(0), nn.Sigmoid()),
    )
    for network in (netG, netD):
        for weight in network.parameters():
            if weight.ndim == 4:
                nn.init.normal_(weight, 0.0, 0.02)
    return netG, netD


def load() -> Tensor:
    pixels, _ = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 8 - 1
    return interpolate(images, size=32, mode="bilinear")


def main(epochs: int = 12, batch_size: int = 64, images: int | None = None) -> Tensor:
    torch.manual_seed(0)
    loader = DataLoader(load()[:images], batch_size, shuffle=True, drop_last=True)
    netG, netD = build()
    criterion = nn.BCELoss()
    optimizerG = torch.optim.Adam(netG.parameters(), lr=1e-3, betas=(0.5, 0.999))
    optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4, betas=(0.5, 0.999))
    real_label, fake_label = torch.ones(batch_size), torch.zeros(batch_size)

    for epoch in range(epochs):
        for real in loader:
            netD.zero_grad()
            output_real = netD(real)
            errD_real = criterion(output_real, real_label)

            fake = netG(torch.randn(batch_size, LATENT, 1, 1))
            leaf = osgan.tap(fake)
            output_fake = netD(leaf)
            errD_fake = criterion(output_fake, fake_label)

            netG.zero_grad()
            errG = criterion(output_fake, real_label)
            osgan.backward(leaf, errD_real + errD_fake, errG)
            optimizerD.step()
            optimizerG.step()
        print(
            f"[{epoch}/{epochs}] Loss_D {errD_real.item() + errD_fake.item():.3f} Loss_G {errG.item():.3f} "
            f"D(x) {output_real.mean().item():.3f} D(G(z)) {output_fake.mean().item():.3f}"
        )
    return netG(torch.randn(64, LATENT, 1, 1)).detach()


if __name__ == "__main__":
    main()
