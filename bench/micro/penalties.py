"""What a step costs with a penalty, exact and approximate, in every scheme: `python -m bench.micro.penalties`.

All steps take turns on the same networks and batch, so that their times compare; prints the table of docs/penalties.md
in Markdown: FLOPs and time over those of R3GAN's own kind of step, two stages with D frozen and exact R1 and R2. Exact
penalties are taken from the forward pass of the loss, as R3GAN's trainer does, so the baseline is no straw man.
"""

import argparse
import contextlib
import random
import statistics
from contextlib import AbstractContextManager

import torch

from bench.analysis.statistics import ratio_interval
from bench.probes.timing import Rounds, interleave, timer_for, warm_up
from osgan import data, nets
from osgan.cost import count_work
from osgan.names import SCHEME_NAMES
from osgan.training.recipe import Recipe, build_loop

PENALTIES = {
    "none": "",
    "exact: r1 + r2": "+r1={gamma}+r2={gamma}",
    "approximate: ar1 + ar2": "+ar1={gamma}+ar2={gamma}",
    "approximate, share 0.25": "+ar1={gamma}+ar2={gamma}+share=0.25",
}
REFERENCE = "exact: r1 + r2, two_stage_frozen"


class Steps:
    """Steps of one scheme with one penalty, on networks of its own; satisfies `bench.probes.timing.Arm`."""

    def __init__(self, recipe: Recipe, dataset: data.Dataset) -> None:
        torch.manual_seed(0)
        networks = nets.build(recipe.architecture, channels=dataset.image_shape[0], num_classes=dataset.num_classes)
        networks.generator.to(dataset.device)
        networks.discriminator.to(dataset.device)
        self.loop = build_loop(recipe, networks, dataset)
        with self.loop.plain():
            real, labels = self.loop.draw()
            self.flops = count_work(self.loop.scheme, real, *labels).flops

    def run(self, steps: int) -> None:
        """Take that many steps."""
        for _ in range(steps):
            self.loop.step()

    def turn(self) -> AbstractContextManager[None]:
        """Ask for nothing around a visit."""
        return contextlib.nullcontext()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--architecture", default="r3gan32+width=64+blocks=1")
    parser.add_argument("--loss", default="rpgan")
    parser.add_argument("--gamma", type=float, default=0.05)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--seconds", type=float, default=120.0, help="of rounds in all; default 120")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    dataset = data.load("synthetic+images=256", resolution=nets.resolution_of(asked.architecture), device=device)
    arms = {
        f"{penalty}, {scheme}": Steps(
            Recipe(
                dataset="synthetic",
                architecture=asked.architecture,
                loss=asked.loss + options.format(gamma=asked.gamma),
                scheme=scheme,
                batch_size=asked.batch_size,
                engine=asked.engine,
                precision=asked.precision,
                ema_half_life=0,
            ),
            dataset,
        )
        for penalty, options in PENALTIES.items()
        for scheme in SCHEME_NAMES
    }
    timer = timer_for(device)
    for arm in arms.values():
        warm_up(arm, timer, budget_s=2)

    def enough(rounds: Rounds) -> str | None:
        return "budget" if rounds.spent_s > asked.seconds else None

    *_, rounds = interleave(arms, timer, steps=1, order=random.Random(0), finished=enough)
    reference = rounds.wall_ms(REFERENCE)
    shown = f"{asked.architecture}, {asked.loss}, batch {asked.batch_size}, {asked.engine}, {asked.precision}"
    print(
        f"{shown}, on {device}: over `two_stage_frozen` with r1 + r2, {arms[REFERENCE].flops / 1e9:.1f} GFLOP and "
        f"{statistics.median(reference):.1f} ms a step; {len(reference)} rounds.\n"
    )
    print("| penalty | " + " | ".join(f"`{scheme}`" for scheme in SCHEME_NAMES) + " |")
    print("|---" * (1 + len(SCHEME_NAMES)) + "|")
    for penalty in PENALTIES:
        cells = []
        for scheme in SCHEME_NAMES:
            interval = ratio_interval(rounds.wall_ms(f"{penalty}, {scheme}"), reference)
            flops = arms[f"{penalty}, {scheme}"].flops / arms[REFERENCE].flops
            cells.append(f"{flops:.2f}; {interval.estimate:.2f} ({interval.low:.2f}-{interval.high:.2f})")
        print(f"| {penalty} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
