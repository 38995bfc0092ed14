"""What precision costs a gradient: `python -m bench.micro.precision` writes the table of docs/precision.md.

For each family, loss and precision one step's gradients of G and D are compared with two gradients in float64 at the
same weights, latents and images: those of the one-stage scheme, and those of two gradients in the same precision. The
difference between the two columns is what one stage adds; the rest is the precision's own. At the start and after some
steps of training. Not here: whether a scheme is exact for a network (`osgan verify`).
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from osgan import data, nets
from osgan.copies import copy_of
from osgan.precision import full_precision
from osgan.schemes import OneStage, Simultaneous
from osgan.step import Scheme
from osgan.training.placement import Autocast

FAMILIES = ("dcgan32+width=32+norm=group", "sngan32+width=32", "r3gan32+width=32", "mlp+width=256")
LOSSES = ("minimax", "nonsaturating", "hinge", "rpgan")
BATCH_SIZE = 32
TRAINED_STEPS = 100


def main() -> None:
    """Print a Markdown table for the device given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dataset", default="digits")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(f"On {name}, PyTorch {torch.__version__.partition('+')[0]}, batch {BATCH_SIZE}, {asked.dataset}:\n")
    print("| family | loss | steps | precision | G, one stage | G, two gradients | D, one stage | D, two gradients |")
    print("|---|---|---|---|---|---|---|---|")
    for family in FAMILIES:
        for loss in LOSSES:
            for row in rows(family, loss, asked.dataset, device):
                print("| " + " | ".join(row) + " |", flush=True)


def rows(family: str, loss: str, dataset: str, device: torch.device) -> Iterator[list[str]]:
    """Return the rows of a family and a loss."""
    source = data.load(dataset, resolution=nets.resolution_of(family), device=device)
    torch.manual_seed(0)
    networks = nets.build(family, channels=source.image_shape[0])
    players = networks.generator.to(device), networks.discriminator.to(device)
    batches = source.batches(BATCH_SIZE, seed=0)
    for steps in (0, TRAINED_STEPS):
        if steps:
            optimizers = [torch.optim.Adam(player.parameters(), 2e-4, (0.5, 0.999)) for player in players]
            step = OneStage(*players, *optimizers, loss=loss, latent=networks.latent)
            for _ in range(steps):
                step(next(batches)[0])
        real = next(batches)[0]
        torch.manual_seed(1)
        z = networks.latent(BATCH_SIZE, device)
        truth = gradients(Simultaneous, players, loss, z, real, "float64")
        for precision in ("float32", "tf32", "bf16") if device.type == "cuda" else ("float32", "bf16"):
            errors = [
                [
                    relative_error(*pair)
                    for pair in zip(gradients(scheme, players, loss, z, real, precision), truth, strict=True)
                ]
                for scheme in (OneStage, Simultaneous)
            ]
            shown = (errors[0][0], errors[1][0], errors[0][1], errors[1][1])
            written = ["at rest" if error is None else f"{error:.1e}" for error in shown]
            yield [f"`{family}`", loss, str(steps), precision, *written]


def gradients(
    scheme: type[Scheme], players: tuple[nn.Module, nn.Module], loss: str, z: Tensor, real: Tensor, precision: str
) -> list[Tensor]:
    """Return the flat gradients of G and D of one step that moves nothing, in that precision."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    G, D = (copy_of(player, "network").to(dtype=dtype) for player in players)
    resting = [torch.optim.SGD(network.parameters(), lr=0.0) for network in (G, D)]
    step = scheme(G, D, *resting, loss=loss, latent=lambda n, device: z.to(dtype))
    step.joint_batch = False
    with in_precision(precision, real.device):
        step.prepare(real.to(dtype))
        if precision == "bf16":
            step.G, step.D = Autocast(G, real.device.type), Autocast(D, real.device.type)
        step.step(real.to(dtype), ())
    return [torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]) for network in (G, D)]


@contextmanager
def in_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute float32 as told: in full, or with TF32 in products and convolutions."""
    with full_precision(device):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision in ("tf32", "bf16")
        yield


def relative_error(found: Tensor, truth: Tensor) -> float | None:
    """Return the Euclidean distance over the length of the truth; None for a player whose loss is flat."""
    size = truth.double().norm().item()
    return (found.double() - truth.double()).norm().item() / size if size else None


if __name__ == "__main__":
    main()
