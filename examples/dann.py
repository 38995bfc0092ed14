"""Domain-adversarial training (Ganin et al. 2016) in one stage: from clean digits to faint, noisy ones without labels.

The domain classifier D tells clean from distorted digits by their features; the feature extractor F wants its loss to
rise. A symmetric game: F's gradient is D's with its sign turned, which is what a gradient reversal layer does. So the
famous layer is one-stage training, exact for any D. F's own loss, the classification, reaches F directly.

    python examples/dann.py
"""

import copy
import math
import time

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

import osgan

WEIGHT = 0.3  # of the adversarial loss in F's

SCHEMES = ("one_stage", "simultaneous", "two_stage_reused_frozen", "two_stage")


def load(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return clean digits (N, 1, 8, 8) with labels, and other digits, distorted, whose labels are for the test only."""
    pixels, labels = load_digits(return_X_y=True)
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=rng)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8)[order] / 8 - 1
    labels = torch.from_numpy(labels).long()[order]
    clean, other = images.chunk(2)
    distorted = 0.5 * other + 0.5 + 0.3 * torch.randn(other.shape, generator=rng)
    return clean, labels[: len(clean)], distorted, labels[len(clean) :]


class Game:
    """F, the digit classifier C and the domain classifier D; each scheme is a method that takes one step."""

    def __init__(self, seed: int = 0, batch_size: int = 64, weight: float = WEIGHT) -> None:
        torch.manual_seed(seed)
        self.batch_size, self.weight = batch_size, weight
        self.source, self.labels, self.target, self.target_labels = load()
        self.F = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU()),
        )
        self.C = nn.Linear(64, 10)
        self.D = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 1))
        self.optimizer = torch.optim.Adam([*self.F.parameters(), *self.C.parameters()], 1e-3, (0.5, 0.999))
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), 1e-3, (0.5, 0.999))

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return images of both domains, (2N, 1, 8, 8), clean ones first, and the labels of the clean ones."""
        clean = torch.randint(len(self.source), (self.batch_size,))
        distorted = torch.randint(len(self.target), (self.batch_size,))
        return torch.cat([self.source[clean], self.target[distorted]]), self.labels[clean]

    def domain_loss(self, logits: Tensor) -> Tensor:
        """Return D's loss, which the features are to raise, from its logits of both domains."""
        clean, distorted = logits.flatten().chunk(2)
        return softplus(-clean).mean() + softplus(distorted).mean()

    def fill(self, batch: tuple[Tensor, Tensor], one_pass: bool = True) -> None:
        """Add the gradients of F, C and D; the features of both domains are what D is to confuse."""
        images, labels = batch
        features = self.F(images)
        leaf = osgan.tap(features)
        logits = self.D(leaf)
        loss = self.domain_loss(logits)
        classification = cross_entropy(self.C(features[: self.batch_size]), labels)
        given = ((), logits) if one_pass else None
        osgan.backward(leaf, loss, -loss, extra=classification, logits=given, weight=self.weight)

    def update(self, one_pass: bool) -> None:
        """Take a step of both players at the same weights."""
        batch = self.draw()
        self.optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(batch, one_pass)
        self.D_optimizer.step()
        self.optimizer.step()

    def one_stage(self) -> None:
        """One backward pass through D for its weights and for the features, whose gradient F gets reversed."""
        self.update(one_pass=True)

    def simultaneous(self) -> None:
        """Two backward passes through D at the same weights."""
        self.update(one_pass=False)

    def two_stage(self) -> None:
        """D's update first, then F's and C's on other images, against the D that has just moved."""
        images, _ = self.draw()
        self.D_optimizer.zero_grad()
        with torch.no_grad():
            features = self.F(images)
        self.domain_loss(self.D(features)).backward()
        self.D_optimizer.step()
        images, labels = self.draw()
        self.optimizer.zero_grad()
        features = self.F(images)
        classification = cross_entropy(self.C(features[: self.batch_size]), labels)
        (classification - self.weight * self.domain_loss(self.D(features))).backward()
        self.optimizer.step()

    def two_stage_reused_frozen(self) -> None:
        """The strongest of two stages: the same images and features serve both updates, D frozen in the second."""
        images, labels = self.draw()
        self.D_optimizer.zero_grad()
        features = self.F(images)
        self.domain_loss(self.D(features.detach())).backward()
        self.D_optimizer.step()
        self.optimizer.zero_grad()
        self.D.requires_grad_(False)
        classification = cross_entropy(self.C(features[: self.batch_size]), labels)
        (classification - self.weight * self.domain_loss(self.D(features))).backward()
        self.D.requires_grad_(True)
        self.optimizer.step()

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the share of distorted digits classified rightly."""
        right = self.C(self.F(self.target)).argmax(1) == self.target_labels
        return right.float().mean().item()


def gradients(game: Game, scheme: str, seed: int = 1) -> Tensor:
    """Return all weight gradients of one step of a copy that moves nothing."""
    game = copy.deepcopy(game)
    torch.manual_seed(seed)
    networks = nn.ModuleList([game.F, game.C, game.D])
    for optimizer in (game.optimizer, game.D_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    getattr(game, scheme)()
    return torch.cat([p.grad.flatten() for p in networks.parameters()])


def main(steps: int = 400) -> None:
    game = Game()
    mine, reference = (gradients(game, scheme) for scheme in ("one_stage", "simultaneous"))
    print(f"gradients against two separate ones: relative error {((mine - reference).norm() / reference.norm()):.1e}")
    unaided = Game(weight=0.0)
    for _ in range(steps):
        unaided.one_stage()
    print(f"accuracy on distorted digits without adversary: {unaided.accuracy():.3f}")
    arms = {scheme: Game() for scheme in SCHEMES}
    seconds = dict.fromkeys(arms, 0.0)
    for step in range(steps):  # one step of each in turn: a slow moment of the machine hits all of them
        for scheme, arm in arms.items():
            arm.weight = WEIGHT * math.tanh(5 * step / steps)  # the paper's ramp: features first, then the adversary
            torch.manual_seed(step)  # the same images for all
            start = time.perf_counter()
            getattr(arm, scheme)()
            seconds[scheme] += time.perf_counter() - start
    for scheme, arm in arms.items():
        ratio = seconds[scheme] / seconds["one_stage"]
        print(f"{scheme:23} accuracy {arm.accuracy():.3f}, time a step {ratio:.2f} of one_stage's")


if __name__ == "__main__":
    main()
