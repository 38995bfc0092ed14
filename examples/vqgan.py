"""VQGAN (Esser et al. 2021): an autoencoder whose codes come from a codebook, on patches of photographs.

D scores overlapping patches and holds BatchNorm, so images mix in it and one backward pass through D cannot serve both
players: `osgan.backward` sends each player's through D on its own, from the one forward pass, exact for any D. The
adversarial loss is weighted by how strong its gradient is at the decoder's last layer beside the reconstruction's. The
authors go backward through D once more for that; here the weight is a function of what has arrived at the images.
LPIPS, which the authors add to the reconstruction loss, is left out; see examples/super_resolution.py for its like.

The authors' loop moves the autoencoder first and goes forward through it again for D. In FLOPs, at the sizes below:
1.32 of ours; with the images reused and D's second pass for the weight saved, 1.04. That variant's steps are ours:
both players' losses are taken at the same weights, and what one stage saves is one look of D at the images.

    python -m examples.vqgan --figure vqgan.png
"""

import copy
from collections.abc import Callable

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, relu

import osgan
from examples.compare import compare

SIZE = 32
COMMITMENT = 0.25
D_WEIGHT = 0.1  # the authors' is 0.8, but their D joins after many steps (disc_start)


def load() -> tuple[Tensor, Tensor]:
    """Return two photographs as (2, 3, H, W) in [-1, 1], the left part to train with and the rest to test with."""
    photographs = torch.stack([torch.tensor(image) for image in load_sample_images().images])
    photographs = photographs.permute(0, 3, 1, 2) / 127.5 - 1
    return photographs[..., :480], photographs[..., 480:]


class Residual(nn.Sequential):
    """Two convolutions, added to what they were given."""

    def __init__(self, width: int) -> None:
        halves = [(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in range(2)]
        super().__init__(*halves[0], *halves[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return x + super().forward(x)


class Quantiser(nn.Module):
    """Puts the nearest of `codes` vectors in the place of each; backward it is passed by (straight through)."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(0.3 * torch.randn(codes, width))  # as wide as the encoder's vectors at first

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the quantised (N, C, H, W), the loss of codebook and commitment, and which codes were taken."""
        vectors = x.movedim(1, -1)
        with torch.no_grad():
            taken = torch.cdist(vectors.flatten(0, -2), self.codebook).argmin(1).view(vectors.shape[:-1])
        nearest = self.codebook[taken]
        loss = mse_loss(nearest, vectors.detach()) + COMMITMENT * mse_loss(vectors, nearest.detach())
        return (vectors + (nearest - vectors).detach()).movedim(-1, 1), loss, taken


class Autoencoder(nn.Module):
    """Images to a quarter of their height and width, to codes, and back."""

    def __init__(self, width: int, codes: int, code_width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 4, 2, 1), Residual(width)),
            *(nn.Conv2d(width, 2 * width, 4, 2, 1), Residual(2 * width)),
            *(nn.GroupNorm(8, 2 * width), nn.SiLU(), nn.Conv2d(2 * width, code_width, 1)),
        )
        self.quantiser = Quantiser(codes, code_width)
        self.decoder = nn.Sequential(
            *(nn.Conv2d(code_width, 2 * width, 3, padding=1), Residual(2 * width)),
            *(nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, width, 3, padding=1), Residual(width)),
            *(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), Residual(width)),
            *(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1)),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images rebuilt, the codebook's loss, and the codes (N, H / 4, W / 4)."""
        quantised, loss, taken = self.quantiser(self.encoder(images))
        return self.decoder(quantised), loss, taken


def patch_d(width: int) -> nn.Sequential:
    """Return a D that gives a map of scores, one for each patch of an image."""
    D = nn.Sequential(
        *(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(2 * width, 4 * width, 4, 1, 1, bias=False), nn.BatchNorm2d(4 * width), nn.LeakyReLU(0.2)),
        nn.Conv2d(4 * width, 1, 4, 1, 1),
    )
    for layer in D:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, 0.02)
    return D


def d_loss(real: Tensor, fake: Tensor) -> Tensor:
    return (relu(1 - real).mean() + relu(1 + fake).mean()) / 2


def ratio(of_reconstruction: Tensor, of_game: Tensor) -> Tensor:
    """Return the adaptive weight from both gradients at the decoder's last layer."""
    return (of_reconstruction.norm() / (of_game.norm() + 1e-4)).clamp(0, 1e4)


class Game:
    """The autoencoder, G, and D; each scheme is a method that takes one step."""

    schemes = ("two_stage", "two_stage_reused_frozen", "simultaneous")
    not_exact = "D scores many patches an image, and its BatchNorm mixes the images of a batch"

    def __init__(
        self, seed: int = 0, batch_size: int = 16, width: int = 32, d_width: int = 32, codes: int = 128
    ) -> None:
        torch.manual_seed(seed)
        self.batch_size = batch_size
        self.photographs, self.test_photographs = load()
        self.G = Autoencoder(width, codes)
        self.D = patch_d(d_width)
        self.G_optimizer = torch.optim.Adam(self.G.parameters(), 5e-4, (0.5, 0.9))
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), 1e-4, (0.5, 0.9))

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Return what holds the weights of either player."""
        return self.G, self.D

    def draw(self) -> Tensor:
        """Return patches (N, 3, SIZE, SIZE) of the photographs."""
        return cut(self.photographs, self.batch_size).to(self.last.device)

    @property
    def last(self) -> Tensor:
        """The weight of the decoder's last layer."""
        return self.G.decoder[-1].weight

    def adaptive(self, reconstruction: Tensor, rebuilt: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the weight of the adversarial loss as a function of its gradient at the images rebuilt."""
        (of_reconstruction,) = torch.autograd.grad(reconstruction, self.last, retain_graph=True)

        def weight(arrived: Tensor) -> Tensor:
            (of_game,) = torch.autograd.grad(rebuilt, self.last, arrived, retain_graph=True)
            return D_WEIGHT * ratio(of_reconstruction, of_game)

        return weight

    def fill(self, images: Tensor) -> None:
        """Add both players' gradients to .grad: every network forward once, G backward once."""
        rebuilt, of_codebook, _ = self.G(images)
        reconstruction = l1_loss(rebuilt, images)
        leaf = osgan.tap(rebuilt)
        real, fake = self.D(images), self.D(leaf)
        weight = self.adaptive(reconstruction, rebuilt)
        osgan.backward(leaf, d_loss(real, fake), -fake.mean(), extra=[reconstruction, of_codebook], weight=weight)

    def simultaneous(self) -> None:
        """Both players' gradients from the one forward pass."""
        self.G_optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(self.draw())
        self.G_optimizer.step()
        self.D_optimizer.step()

    def two_stage(self) -> None:
        """The authors' loop: the autoencoder moves, then rebuilds the images for D; the other player is frozen."""
        images = self.draw()
        self.G_optimizer.zero_grad()
        self.D.requires_grad_(False)
        rebuilt, of_codebook, _ = self.G(images)
        reconstruction, adversarial = l1_loss(rebuilt, images), -self.D(rebuilt).mean()
        (of_reconstruction,) = torch.autograd.grad(reconstruction, self.last, retain_graph=True)
        (of_game,) = torch.autograd.grad(adversarial, self.last, retain_graph=True)
        weight = D_WEIGHT * ratio(of_reconstruction, of_game)
        (reconstruction + of_codebook + weight * adversarial).backward()
        self.D.requires_grad_(True)
        self.G_optimizer.step()
        self.D_optimizer.zero_grad()
        with torch.no_grad():
            rebuilt, _, _ = self.G(images)
        d_loss(self.D(images), self.D(rebuilt)).backward()
        self.D_optimizer.step()

    def two_stage_reused_frozen(self) -> None:
        """The authors' loop without needless work: one rebuilding for both, one pass through D for the weight and G."""
        images = self.draw()
        self.G_optimizer.zero_grad()
        self.D.requires_grad_(False)
        rebuilt, of_codebook, _ = self.G(images)
        reconstruction, adversarial = l1_loss(rebuilt, images), -self.D(rebuilt).mean()
        (arrived,) = torch.autograd.grad(adversarial, rebuilt)
        weight = self.adaptive(reconstruction, rebuilt)(arrived)
        torch.autograd.backward([rebuilt, reconstruction, of_codebook], [weight * arrived, None, None])
        self.D.requires_grad_(True)
        self.G_optimizer.step()
        self.D_optimizer.zero_grad()
        d_loss(self.D(images), self.D(rebuilt.detach())).backward()
        self.D_optimizer.step()

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return the error on held-out patches, the codes in use there, and D's loss."""
        images = cut(self.test_photographs, 64, torch.Generator().manual_seed(0)).to(self.last.device)
        rebuilt, _, taken = self.G(images)
        D = copy.deepcopy(self.D)  # whose running means move, in the mode it trains in
        return {
            "L1 error, held out": l1_loss(rebuilt, images).item(),
            "codes in use, held out": taken.unique().numel(),
            "D's loss": d_loss(D(images), D(rebuilt)).item(),
        }


def cut(photographs: Tensor, patches: int, rng: torch.Generator | None = None) -> Tensor:
    """Return patches (N, 3, SIZE, SIZE) of photographs, from anywhere."""
    number, _, height, width = photographs.shape
    highest = torch.tensor([number, height - SIZE + 1, width - SIZE + 1])
    places = (torch.rand(patches, 3, generator=rng) * highest).long().tolist()
    return torch.stack([photographs[which, :, y : y + SIZE, x : x + SIZE] for which, y, x in places])


if __name__ == "__main__":
    compare(Game, "VQGAN: photographs to codes and back", steps=150)
