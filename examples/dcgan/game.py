"""PyTorch's DCGAN example as a game: the networks, loss and loop of two_stage.py beside those of one_stage.py.

D's BatchNorm mixes samples and the loss is not symmetric, so this takes two passes from the one forward pass. FLOPs at
this size: the example's own loop takes 1.20 times those of one forward pass, with D frozen in G's turn 1.10.

    python -m examples.dcgan.game --figure dcgan.png
"""

import torch
from torch import Tensor, nn

import osgan
from examples.compare import compare
from examples.dcgan.two_stage import LATENT, build, load


class Game:
    """Both networks; each scheme is a method that takes one step."""

    schemes = ("two_stage", "two_stage_reused_frozen", "simultaneous")
    not_exact = "D has BatchNorm, which mixes samples, and the loss is not symmetric"

    def __init__(self, seed: int = 0, batch_size: int = 64) -> None:
        torch.manual_seed(seed)
        self.images, self.batch_size = load(), batch_size
        self.G, self.D = build()
        self.criterion = nn.BCELoss()
        self.G_optimizer = torch.optim.Adam(self.G.parameters(), lr=1e-3, betas=(0.5, 0.999))
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Return the networks of both sides."""
        return self.G, self.D

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return digits and as many latents."""
        real = self.images[torch.randint(len(self.images), (self.batch_size,))]
        return real, torch.randn(self.batch_size, LATENT, 1, 1).to(real)

    def losses(self, on_real: Tensor, on_fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return D's loss and G's, of probabilities."""
        ones, zeros = torch.ones_like(on_fake), torch.zeros_like(on_fake)
        return self.criterion(on_real, ones) + self.criterion(on_fake, zeros), self.criterion(on_fake, ones)

    def fill(self, batch: tuple[Tensor, Tensor]) -> None:
        """Add both players' gradients."""
        real, z = batch
        leaf = osgan.tap(self.G(z))
        D_loss, G_loss = self.losses(self.D(real), self.D(leaf))
        osgan.backward(leaf, D_loss, G_loss)

    def simultaneous(self) -> None:
        """Two backward passes from one forward pass through D."""
        batch = self.draw()
        self.G_optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(batch)
        self.D_optimizer.step()
        self.G_optimizer.step()

    def two_stage(self, *, frozen: bool = False) -> None:
        """The example's loop: D's update, then G's on the same fakes; gradients of D's weights are thrown away."""
        real, z = self.draw()
        self.D_optimizer.zero_grad()
        fake = self.G(z)
        self.losses(self.D(real), self.D(fake.detach()))[0].backward()
        self.D_optimizer.step()
        self.G_optimizer.zero_grad()
        self.D.requires_grad_(not frozen)
        on_fake = self.D(fake)
        self.criterion(on_fake, torch.ones_like(on_fake)).backward()
        self.D.requires_grad_(True)
        self.G_optimizer.step()

    def two_stage_reused_frozen(self) -> None:
        """The same without gradients of D's weights in G's turn."""
        self.two_stage(frozen=True)

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return how far the mean image is from the digits', and both losses now."""
        torch.manual_seed(0)
        real, z = self.images[:256], torch.randn(256, LATENT, 1, 1)
        fake = self.G(z)
        D_loss, G_loss = self.losses(self.D(real), self.D(fake))
        away = (fake.mean(0) - self.images.mean(0)).norm().item()
        return {"distance of the mean image": away, "loss of D": D_loss.item(), "loss of G": G_loss.item()}


if __name__ == "__main__":
    compare(Game, "PyTorch's DCGAN example on digits", steps=120)
