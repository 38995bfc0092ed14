"""A generator of one or two steps, distilled from a diffusion model with an adversary as in DMD2 (Yin et al. 2024).

The teacher's denoiser of digits is known in closed form. D denoises too, what the generator makes (the fake score), and
has one logit a noised image on top. G follows the difference of the two denoisers (distribution matching, a term past
D, so `extra`) and wants its logits to rise. D keeps images apart: one backward pass is exact, with D's own denoising
loss in `d_loss`, computed on the fakes detached.

The authors' loop moves G first, D frozen, then D on the same images: it takes both gradients at the same weights. So
with the same noise one stage takes the authors' own step, to rounding, and saves two of D's five passes forward and one
backward: the loop has 1.21 times its FLOPs, two backward passes from the one forward pass 1.06 times. One stage is for
steps that update both; the authors let D take four more in between, which stay as they are.

    python -m examples.few_step --figure few_step.png
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import osgan
from examples.compare import compare

FAR, NEAR = 4.0, 0.8  # noise before the first step and before the second
LOW, HIGH = 0.1, 3.0  # noise at which the denoisers are compared
KERNEL = 0.2  # standard deviation around each digit that the teacher knows


class Denoiser(nn.Module):
    """Images of noised ones (N, 1, 8, 8), given the noise (N, 1, 1, 1); `logit` is D's head on the same trunk."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(nn.Conv2d(2, width, 3, 1, 1), nn.SiLU()),
            *(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(4, 2 * width), nn.SiLU()),
            *(nn.Conv2d(2 * width, 2 * width, 3, 1, 1), nn.GroupNorm(4, 2 * width), nn.SiLU()),
        )
        self.image = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.SiLU(), nn.Conv2d(width, 1, 3, 1, 1)
        )
        self.head = nn.Conv2d(2 * width, 1, 4)

    def features(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Scale the images to one size whatever the noise, which is an image beside them."""
        return self.trunk(torch.cat([x / (1 + sigma**2).sqrt(), (sigma.log() / 4).expand_as(x)], 1))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise: a mixture of the noised image and of what the network says."""
        return (x + sigma * (1 + sigma**2).sqrt() * self.image(self.features(x, sigma))) / (1 + sigma**2)

    def logit(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return whether the noised images are real, (N,)."""
        return self.head(self.features(x, sigma)).flatten()


class Game:
    """Generator, fake score with its head, and the teacher; each scheme is a method that takes one step."""

    schemes = ("two_stage", "two_stage_reused_frozen", "simultaneous", "one_stage")

    def __init__(self, seed: int = 0, batch_size: int = 64, width: int = 16, weight: float = 1.0) -> None:
        torch.manual_seed(seed)
        self.batch_size, self.weight = batch_size, weight
        pixels, _ = load_digits(return_X_y=True)
        digits = torch.from_numpy(pixels).to(torch.get_default_dtype()).view(-1, 1, 8, 8) / 8 - 1
        digits = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
        self.digits, self.test_digits = digits[:-360], digits[-360:]
        self.G, self.D = Denoiser(width), Denoiser(width)
        self.G.head = nn.Identity()
        self.average = AveragedModel(self.G, multi_avg_fn=get_ema_multi_avg_fn(0.99))
        self.G_optimizer = torch.optim.Adam(self.G.parameters(), 5e-4, (0.5, 0.99))
        self.D_optimizer = torch.optim.Adam(self.D.parameters(), 2e-3, (0.5, 0.99))

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Return the networks of both sides."""
        return self.G, self.D

    def teacher(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the mean of the digits, each spread by a narrow normal, that the noised images may come from."""
        known, spread = self.digits.flatten(1), KERNEL**2 + sigma.flatten(1) ** 2
        likely = ((x.flatten(1) @ known.T - known.square().sum(1) / 2) / spread).softmax(1)
        mean = (likely @ known).view_as(x)
        return mean + KERNEL**2 / (KERNEL**2 + sigma**2) * (x - mean)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return digits, five noises of their shape, and the noise's size for D's two outputs."""
        real = self.digits[torch.randint(len(self.digits), (self.batch_size,))]
        sigma = LOW * (HIGH / LOW) ** torch.rand(2, len(real), 1, 1, 1)
        return real, torch.randn(5, *real.shape), sigma

    def generate(self, noise: Tensor) -> Tensor:
        """Return images, half of them from pure noise, half from such an image that is noised again."""
        first, second = (FAR * noise[0]).chunk(2)
        sigma = torch.full((noise.shape[1], 1, 1, 1), FAR)
        with torch.no_grad():
            second = self.G(second, sigma[len(first) :]) + NEAR * noise[1, len(first) :]
        sigma[len(first) :] = NEAR
        return self.G(torch.cat([first, second]), sigma)

    def matching(self, fakes: Tensor, noised: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
        """Return a loss whose gradient is the difference of the denoisers, over the teacher's error."""
        with torch.no_grad():
            target = self.teacher(noised, sigma)
            scale = (fakes - target).abs().mean((1, 2, 3), keepdim=True)
            towards = fakes - (denoised - target) / scale
        return 0.5 * mse_loss(fakes, towards)

    def losses_of_D(self, batch: tuple[Tensor, Tensor, Tensor], fakes: Tensor) -> tuple[Tensor, ...]:
        """Return D's loss, its logits of digits and fakes, the fakes noised for the denoisers, and them denoised."""
        real, noise, sigma = batch
        on_real = self.D.logit(real + sigma[0] * noise[2], sigma[0])
        on_fake = self.D.logit(fakes + sigma[0] * noise[3], sigma[0])
        noised = fakes.detach() + sigma[1] * noise[4]
        denoised = self.D(noised, sigma[1])
        of_score = ((denoised - fakes.detach()).square() * (1 + sigma[1] ** -2)).mean()
        adversarial = softplus(-on_real).mean() + softplus(on_fake).mean()
        return of_score + self.weight * adversarial, on_real, on_fake, noised, denoised

    def fill(self, batch: tuple[Tensor, Tensor, Tensor], one_pass: bool = True) -> None:
        """Add both players' gradients; what D denoises for its own loss serves the matching too."""
        fakes = self.generate(batch[1])
        leaf = osgan.tap(fakes)
        D_loss, on_real, on_fake, noised, denoised = self.losses_of_D(batch, leaf)
        matching = self.matching(fakes, noised, batch[2][1], denoised)
        logits = (on_real, on_fake) if one_pass else None
        osgan.backward(leaf, D_loss, softplus(-on_fake).mean(), extra=matching, logits=logits, weight=self.weight)

    def one_stage(self, one_pass: bool = True) -> None:
        """One backward pass through D."""
        batch = self.draw()
        self.G_optimizer.zero_grad()
        self.D_optimizer.zero_grad()
        self.fill(batch, one_pass)
        self.D_optimizer.step()
        self.G_optimizer.step()
        self.average.update_parameters(self.G)

    def simultaneous(self) -> None:
        """Two backward passes from one forward pass through D."""
        self.one_stage(one_pass=False)

    def two_stage(self) -> None:
        """The authors' order: G's update with D frozen, then D's on the same images."""
        batch = self.draw()
        _, noise, sigma = batch
        fakes = self.generate(noise)
        self.D.requires_grad_(False)
        with torch.no_grad():
            noised = fakes + sigma[1] * noise[4]
            denoised = self.D(noised, sigma[1])
        on_fake = self.D.logit(fakes + sigma[0] * noise[3], sigma[0])
        self.G_optimizer.zero_grad()
        (self.matching(fakes, noised, sigma[1], denoised) + self.weight * softplus(-on_fake).mean()).backward()
        self.G_optimizer.step()
        self.average.update_parameters(self.G)
        self.D.requires_grad_(True)
        self.D_optimizer.zero_grad()
        self.losses_of_D(batch, fakes.detach())[0].backward()
        self.D_optimizer.step()

    two_stage_reused_frozen = two_stage

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """Return the energy distance to unseen digits of what the averaged generator makes in one step and in two."""
        rng = torch.Generator().manual_seed(0)
        far, near = (torch.randn(720, 1, 8, 8, generator=rng) for _ in range(2))
        one = self.average(FAR * far, torch.full((720, 1, 1, 1), FAR))
        two = self.average(one + NEAR * near, torch.full((720, 1, 1, 1), NEAR))
        return {"one step": distance(one, self.test_digits), "two steps": distance(two, self.test_digits)}


def distance(images: Tensor, real: Tensor) -> float:
    a, b = images.flatten(1), real.flatten(1)
    between, within = torch.cdist(a, b).mean(), torch.pdist(a).mean() + torch.pdist(b).mean()
    return (2 * between - within).item()


if __name__ == "__main__":
    compare(Game, "few steps: a distilled generator of digits", steps=400)
