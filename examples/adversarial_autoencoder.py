"""An adversarial autoencoder (Makhzani et al. 2016) in one stage: digits whose codes are spread like a normal.

The game is played over codes, not images: D tells the encoder's codes from normal ones, the encoder wants to pass. The
loss is asymmetric (non-saturating), so what D's one backward pass brings to a code is scaled by its gradient ratio. The
reconstruction loss never meets D: its gradient reaches the encoder directly, beside the adversarial one.

    python examples/adversarial_autoencoder.py
"""

import copy
import time

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

import osgan

CODE = 8
WEIGHT = 0.005  # of the adversarial loss in the encoder's

SCHEMES = ("one_stage", "simultaneous", "two_stage_reused_frozen", "two_stage")


def load() -> tuple[Tensor, Tensor]:
    """Return digits (N, 64) in [-1, 1] to train with, and others to test with."""
    pixels, _ = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float() / 8 - 1
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:-360]], images[order[-360:]]


class Game:
    """Encoder, decoder and D; each scheme is a method that takes one step."""

    def __init__(self, seed: int = 0, batch_size: int = 64, weight: float = WEIGHT) -> None:
        torch.manual_seed(seed)
        self.batch_size, self.weight = batch_size, weight
        self.images, self.test_images = load()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, CODE))
        self.decoder = nn.Sequential(nn.Linear(CODE, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 64))
        self.D = nn.Sequential(
            nn.Linear(CODE, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1)
        )
        self.optimizer = torch.optim.Adam([*self.encoder.parameters(), *self.decoder.parameters()], 1e-3, (0.5, 0.999))
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), 1e-3, (0.5, 0.999))

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return digits and as many normal codes."""
        return self.images[torch.randint(len(self.images), (self.batch_size,))], torch.randn(self.batch_size, CODE)

    def fill(self, batch: tuple[Tensor, Tensor], one_pass: bool = True) -> None:
        """Add the gradients of encoder, decoder and D; the reconstruction never meets D."""
        digits, normal = batch
        codes = self.encoder(digits)
        leaf = osgan.tap(codes)
        real, fake = self.D(normal), self.D(leaf)
        D_loss = softplus(-real).mean() + softplus(fake).mean()
        reconstruction = mse_loss(self.decoder(codes), digits)
        given = (real, fake) if one_pass else None
        osgan.backward(leaf, D_loss, softplus(-fake).mean(), extra=reconstruction, logits=given, weight=self.weight)

    def update(self, one_pass: bool) -> None:
        """Take a step of both players at the same weights."""
        batch = self.draw()
        self.optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(batch, one_pass)
        self.D_optimizer.step()
        self.optimizer.step()

    def one_stage(self) -> None:
        """One backward pass through D for its weights and for the codes; the ratio turns theirs into the encoder's."""
        self.update(one_pass=True)

    def simultaneous(self) -> None:
        """Two backward passes through D at the same weights."""
        self.update(one_pass=False)

    def two_stage(self) -> None:
        """D's update first, then the autoencoder's on other digits, against the D that has just moved."""
        digits, normal = self.draw()
        self.D_optimizer.zero_grad()
        with torch.no_grad():
            codes = self.encoder(digits)
        (softplus(-self.D(normal)).mean() + softplus(self.D(codes)).mean()).backward()
        self.D_optimizer.step()
        digits, normal = self.draw()
        self.optimizer.zero_grad()
        codes = self.encoder(digits)
        reconstruction = mse_loss(self.decoder(codes), digits)
        (reconstruction + self.weight * softplus(-self.D(codes)).mean()).backward()
        self.optimizer.step()

    def two_stage_reused_frozen(self) -> None:
        """The strongest of two stages: the same digits and codes serve both updates, D frozen in the second."""
        digits, normal = self.draw()
        self.D_optimizer.zero_grad()
        codes = self.encoder(digits)
        (softplus(-self.D(normal)).mean() + softplus(self.D(codes.detach())).mean()).backward()
        self.D_optimizer.step()
        self.optimizer.zero_grad()
        self.D.requires_grad_(False)
        reconstruction = mse_loss(self.decoder(codes), digits)
        (reconstruction + self.weight * softplus(-self.D(codes)).mean()).backward()
        self.D.requires_grad_(True)
        self.optimizer.step()

    @torch.no_grad()
    def quality(self) -> tuple[float, float]:
        """Return the squared error a pixel on test digits, and their codes' energy distance to the normal."""
        self.encoder.eval(), self.decoder.eval()
        codes = self.encoder(self.test_images)
        error = mse_loss(self.decoder(codes), self.test_images).item()
        self.encoder.train(), self.decoder.train()
        normal = torch.randn(2000, CODE, generator=torch.Generator().manual_seed(0))
        across, among, own = (torch.cdist(*pair).mean() for pair in ((codes, normal), (codes, codes), (normal, normal)))
        return error, (2 * across - among - own).item()


def gradients(game: Game, scheme: str, seed: int = 1) -> Tensor:
    """Return all weight gradients of one step of a copy that moves nothing."""
    game = copy.deepcopy(game)
    torch.manual_seed(seed)
    networks = nn.ModuleList([game.encoder, game.decoder, game.D])
    for optimizer in (game.optimizer, game.D_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    getattr(game, scheme)()
    return torch.cat([p.grad.flatten() for p in networks.parameters()])


def main(steps: int = 400) -> None:
    game = Game()
    mine, reference = (gradients(game, scheme) for scheme in ("one_stage", "simultaneous"))
    print(f"gradients against two separate ones: relative error {((mine - reference).norm() / reference.norm()):.1e}")
    print("before training: squared error {:.3f}, energy distance of the codes {:.3f}".format(*game.quality()))
    arms = {scheme: Game() for scheme in SCHEMES}
    seconds = dict.fromkeys(arms, 0.0)
    for step in range(steps):  # one step of each in turn: a slow moment of the machine hits all of them
        for scheme, arm in arms.items():
            torch.manual_seed(step)  # the same digits and codes for all
            start = time.perf_counter()
            getattr(arm, scheme)()
            seconds[scheme] += time.perf_counter() - start
    for scheme, arm in arms.items():
        error, distance = arm.quality()
        ratio = seconds[scheme] / seconds["one_stage"]
        print(f"{scheme:23} squared error {error:.3f}, distance {distance:.3f}, time a step {ratio:.2f} of one_stage's")


if __name__ == "__main__":
    main()
