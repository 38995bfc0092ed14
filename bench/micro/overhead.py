"""What osgan.backward costs over the same passes written out by hand: `python -m bench.micro.overhead`.

The same networks, batch and losses, steps of both in turns; prints the ratio of their times with its interval, for one
pass through D and for two. By hand is what stands in docs/method.md: no check of any kind.
"""

import argparse
import contextlib
import random
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import osgan
from bench.analysis.statistics import ratio_interval
from bench.probes.timing import Rounds, interleave, timer_for, warm_up
from osgan.decomposition import decompose


class Loop:
    """Steps of one way to fill the gradients, on networks of its own."""

    def __init__(self, fill: Callable[["Loop"], None], width: int, batch_size: int, device: torch.device) -> None:
        torch.manual_seed(0)
        pair = osgan.nets.build(f"dcgan32+width={width}+norm=group", channels=3)
        self.G, self.D, self.latent = pair.generator.to(device), pair.discriminator.to(device), pair.latent
        self.optimizers = [
            osgan.optim.build_optimizer("adam", n.parameters(), 2e-4, (0.5, 0.999)) for n in self.players
        ]
        self.real = torch.rand(batch_size, 3, 32, 32, device=device) * 2 - 1
        self.fill = fill

    @property
    def players(self) -> tuple[nn.Module, nn.Module]:
        """G and D."""
        return self.G, self.D

    def fakes(self) -> Tensor:
        """Make as many fakes as there are real images."""
        fake: Tensor = self.G(self.latent(len(self.real), self.real.device))
        return fake

    def run(self, steps: int) -> None:
        """Take that many steps."""
        for _ in range(steps):
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            self.fill(self)
            for optimizer in self.optimizers:
                optimizer.step()

    def turn(self) -> AbstractContextManager[None]:
        """Ask for nothing around a visit."""
        return contextlib.nullcontext()


def one_pass_by_hand(loop: Loop) -> None:
    """Send the carrier through D, and on what arrives times the ratio: autograd at the logits, as a user has it."""
    fake = loop.fakes()
    leaf = fake.detach().requires_grad_()
    r, f = loop.D(loop.real).flatten(), loop.D(leaf).flatten()
    d_loss, g_loss = softplus(-r).mean() + softplus(f).mean(), softplus(-f).mean()
    of_real, of_fake = torch.autograd.grad(d_loss, (r, f))
    (of_g,) = torch.autograd.grad(g_loss, f)
    carrier, ratio = decompose(of_fake, of_g)
    torch.autograd.backward([r, f], [of_real, carrier])
    assert leaf.grad is not None
    fake.backward(ratio.view(-1, 1, 1, 1) * leaf.grad)


def one_pass(loop: Loop) -> None:
    """Let osgan.backward do it."""
    fake = loop.fakes()
    leaf = osgan.tap(fake)
    r, f = loop.D(loop.real).flatten(), loop.D(leaf).flatten()
    osgan.backward(leaf, softplus(-r).mean() + softplus(f).mean(), softplus(-f).mean(), logits=(r, f))


def two_passes_by_hand(loop: Loop) -> None:
    """Send each player's gradient through D on its own."""
    fake = loop.fakes()
    leaf = fake.detach().requires_grad_()
    r, f = loop.D(loop.real).flatten(), loop.D(leaf).flatten()
    (arrived,) = torch.autograd.grad(softplus(-f).mean(), leaf, retain_graph=True)
    (softplus(-r).mean() + softplus(f).mean()).backward(inputs=list(loop.D.parameters()))
    fake.backward(arrived)


def two_passes(loop: Loop) -> None:
    """Let osgan.backward do it."""
    fake = loop.fakes()
    leaf = osgan.tap(fake)
    r, f = loop.D(loop.real).flatten(), loop.D(leaf).flatten()
    osgan.backward(leaf, softplus(-r).mean() + softplus(f).mean(), softplus(-f).mean())


PAIRS = {"one pass": (one_pass, one_pass_by_hand), "two passes": (two_passes, two_passes_by_hand)}


def main() -> None:
    """Print a line for each size and kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=20.0, help="of rounds for a line; default 20")
    parser.add_argument("--size", action="append", metavar="WIDTH,BATCH", help="default: 8,16 and 32,64")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    timer = timer_for(device)
    for size in asked.size or ("8,16", "32,64"):
        width, batch_size = map(int, size.split(","))
        for kind, fills in PAIRS.items():
            arms = {fill.__name__: Loop(fill, width, batch_size, device) for fill in fills}
            for arm in arms.values():
                warm_up(arm, timer, budget_s=5)

            def enough(rounds: Rounds) -> str | None:
                return "budget" if rounds.spent_s > asked.seconds else None

            *_, rounds = interleave(arms, timer, steps=2, order=random.Random(0), finished=enough)
            ours, by_hand = (rounds.wall_ms(arm) for arm in arms)
            interval = ratio_interval(ours, by_hand)
            print(
                f"width {width}, batch {batch_size}, {kind}: osgan.backward over by hand {interval.estimate:.4f} "
                f"[{interval.low:.4f}, {interval.high:.4f}] of {statistics.median(by_hand):.2f} ms, "
                f"{len(ours)} rounds"
            )


if __name__ == "__main__":
    main()
