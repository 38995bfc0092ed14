"""What the recipes show of themselves: each scheme's FLOPs and time beside the others', and a curve over seconds.

A recipe is a class without arguments: a method of no arguments for each of its `schemes` takes a step, `fill` adds the
gradients of a batch that `draw` gives, and `judge` returns what a reader wants to see fall, by name. The command
`python -m bench run games` measures the same classes with intervals.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import matplotlib
import torch

import osgan
from osgan.cost import count_step

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def compare(game: type, title: str, steps: int = 60, judged: int = 6) -> dict[str, list[dict[str, float]]]:
    """Train an arm for each scheme, a step of each in turn; print a table, draw the figure, return what was judged."""
    arguments = argparse.ArgumentParser(description=title)
    arguments.add_argument("--steps", type=int, default=steps)
    arguments.add_argument("--figure", type=Path, help="where to draw the curves, a PNG or SVG file")
    given = arguments.parse_args()
    arms: dict[str, Any] = {scheme: game() for scheme in game.schemes}
    flops = {scheme: count_step(getattr(game(), scheme)).flops for scheme in arms}
    verified = verify_recipe(game())
    seconds: dict[str, list[float]] = {scheme: [] for scheme in arms}
    found: dict[str, list[dict[str, float]]] = {scheme: [] for scheme in arms}
    for step in range(given.steps):
        for scheme, arm in arms.items():
            if step % max(1, given.steps // judged) == 0:
                found[scheme].append({"seconds": sum(seconds[scheme]), "step": step} | arm.judge())
            torch.manual_seed(step)  # the same batches for all
            start = time.perf_counter()
            getattr(arm, scheme)()
            seconds[scheme].append(time.perf_counter() - start)
    for scheme, arm in arms.items():
        found[scheme].append({"seconds": sum(seconds[scheme]), "step": given.steps} | arm.judge())
    mine = game.schemes[-1]
    print(
        f"{title}\ngradients over two separate ones, apart by G's {verified.generator_error:.0e}, D's "
        f"{verified.discriminator_error:.0e}"
    )
    print(f"{'scheme':26} FLOPs  time  at the end, after {given.steps} steps")
    for scheme, rounds in seconds.items():
        ratios = [theirs / own for theirs, own in zip(rounds, seconds[mine], strict=True)]
        values = "  ".join(
            f"{name} {value:.3f}" for name, value in found[scheme][-1].items() if name not in ("seconds", "step")
        )
        print(f"{scheme:26} {flops[scheme] / flops[mine]:.2f}   {statistics.median(ratios):.2f}  {values}")
    if given.figure:
        draw(found, title, given.figure)
    return found


def verify_recipe(game: Any) -> osgan.Verification:
    """Hold what the recipe fills against plain autograd of its own losses, a gradient for each player on its own."""
    batch = game.draw()
    return osgan.verify(*game.players(), step=lambda: game.fill(batch))


def draw(found: dict[str, list[dict[str, float]]], title: str, path: Path) -> None:
    """Draw what was judged over seconds of training, a panel for each value."""
    names = [name for name in next(iter(found.values()))[0] if name not in ("seconds", "step")]
    figure, axes = plt.subplots(1, len(names), figsize=(4.5 * len(names), 3.4), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        for scheme, rows in found.items():
            axis.plot([row["seconds"] for row in rows], [row[name] for row in rows], marker=".", label=scheme)
        axis.set(xlabel="seconds of training", ylabel=name)
        axis.grid(alpha=0.3)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    print(f"figure: {path}")
