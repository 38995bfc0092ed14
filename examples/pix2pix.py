"""Pix2pix (Isola et al. 2017): a U-Net colours grey patches of two photographs, judged by a conditional PatchGAN.

D sees the grey patch beside the colours and scores overlapping squares of them; G minimises 100 times the distance to
the true colours beside D's loss. D has many logits an image and BatchNorm, so one backward pass through it is not exact
for this loss, which is not symmetric: `osgan.backward` makes two, from the one forward pass. The authors' PyTorch loop
generates once and freezes D already; what one stage saves of it is D's second forward pass on the fakes, 1.07 times the
FLOPs. (Their first code, in Lua, saved it too: it went back through D from the forward pass of D's update.)

    python -m examples.pix2pix --figure pix2pix.png
"""

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, l1_loss

import osgan
from examples.compare import compare

SIZE = 32
L1 = 100.0


def load() -> Tensor:
    """Return both photographs at half their size, (2, 3, 213, 320) in [-1, 1]."""
    photographs = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    pixels = photographs.permute(0, 3, 1, 2).float() / 127.5 - 1
    return interpolate(pixels, scale_factor=0.5, mode="area").to(torch.get_default_dtype())


def down(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2))


def up(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class UNet(nn.Module):
    """Colours (N, 3, 32, 32) of grey patches (N, 1, 32, 32)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.downward = nn.ModuleList([down(1, width), down(width, 2 * width), down(2 * width, 4 * width)])
        self.upward = nn.ModuleList([up(4 * width, 2 * width), up(4 * width, width), up(2 * width, width)])
        self.colour = nn.Sequential(nn.Conv2d(width + 1, 3, 3, padding=1), nn.Tanh())

    def forward(self, grey: Tensor) -> Tensor:
        """Go down to 4x4 and up again, past what was seen at each size on the way down."""
        seen = [grey]
        for layer in self.downward:
            seen.append(layer(seen[-1]))
        x = seen.pop()
        for layer in self.upward:
            x = torch.cat([layer(x), seen.pop()], 1)
        return self.colour(x)


class Game:
    """U-Net and PatchGAN; each scheme is a method that takes one step."""

    schemes = ("two_stage", "two_stage_reused_frozen", "simultaneous")
    not_exact = "a PatchGAN has many logits an image and this one has BatchNorm, and the loss is not symmetric"

    def __init__(self, seed: int = 0, batch_size: int = 16, width: int = 16) -> None:
        torch.manual_seed(seed)
        self.batch_size = batch_size
        self.photographs = load()
        self.G = UNet(width)
        self.D = nn.Sequential(
            *(nn.Conv2d(4, width, 4, 2, 1), nn.LeakyReLU(0.2), down(width, 2 * width)),
            *(nn.Conv2d(2 * width, 4 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(4 * width), nn.LeakyReLU(0.2)),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )
        self.G_optimizer = torch.optim.Adam(self.G.parameters(), 1e-3, (0.5, 0.999))
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), 2e-4, (0.5, 0.999))

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Return the networks of both sides."""
        return self.G, self.D

    def draw(self, among: slice = slice(0, 240)) -> tuple[Tensor, Tensor]:
        """Return grey patches and their colours, from the left three quarters of the photographs."""
        area = self.photographs[..., among]
        heights, widths = (torch.randint(size - SIZE + 1, (self.batch_size,)) for size in area.shape[-2:])
        places = enumerate(zip(heights.tolist(), widths.tolist(), strict=True))
        colours = torch.stack([area[i % 2, :, y : y + SIZE, x : x + SIZE] for i, (y, x) in places])
        return colours.mean(1, keepdim=True), colours

    def losses_of_D(self, grey: Tensor, colours: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
        """Return D's loss, halved as the authors do, and its scores of the fakes."""
        real, fake = self.D(torch.cat([grey, colours], 1)), self.D(torch.cat([grey, fakes], 1))
        return 0.5 * (score_loss(real, 1.0) + score_loss(fake, 0.0)), fake

    def fill(self, batch: tuple[Tensor, Tensor]) -> None:
        """Add both players' gradients: D's loss and G's adversarial one from one forward pass, and the distance."""
        grey, colours = batch
        fakes = self.G(grey)
        leaf = osgan.tap(fakes)
        D_loss, fake = self.losses_of_D(grey, colours, leaf)
        osgan.backward(leaf, D_loss, score_loss(fake, 1.0), extra=L1 * l1_loss(fakes, colours))

    def simultaneous(self) -> None:
        """Two backward passes from one forward pass through D."""
        batch = self.draw()
        self.G_optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(batch)
        self.D_optimizer.step()
        self.G_optimizer.step()

    def two_stage(self) -> None:
        """The loop of the authors' PyTorch code: one generation for both, D frozen in G's update."""
        grey, colours = self.draw()
        fakes = self.G(grey)
        self.D.requires_grad_(True)
        self.D_optimizer.zero_grad()
        self.losses_of_D(grey, colours, fakes.detach())[0].backward()
        self.D_optimizer.step()
        self.D.requires_grad_(False)
        self.G_optimizer.zero_grad()
        fake = self.D(torch.cat([grey, fakes], 1))
        (score_loss(fake, 1.0) + L1 * l1_loss(fakes, colours)).backward()
        self.G_optimizer.step()
        self.D.requires_grad_(True)

    two_stage_reused_frozen = two_stage

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return the error on the right quarter of the photographs, and how much colour there is beside the true."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            grey, colours = map(torch.cat, zip(*(self.draw(slice(240, 320)) for _ in range(8)), strict=True))
        self.G.eval()
        fakes = self.G(grey)
        self.G.train()
        saturation = [(x - x.mean(1, keepdim=True)).abs().mean().item() for x in (fakes, colours)]
        return {"error on unseen patches": l1_loss(fakes, colours).item(), "colour": saturation[0] / saturation[1]}


def score_loss(scores: Tensor, label: float) -> Tensor:
    return binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


if __name__ == "__main__":
    compare(Game, "pix2pix: colours for grey patches", steps=300)
