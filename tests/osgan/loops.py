"""Loops of tiny networks on a few fixed batches."""

import copy

import torch
from reference import latent_of, make_networks, make_real

import osgan
from osgan.batches import Batches
from osgan.training.loop import Loop

NUM_STEPS = 4


def numbered(index, dtype=torch.float64):
    with torch.random.fork_rng([]):
        torch.manual_seed(index)
        return make_real(dtype)


class Repeat(Batches):
    """A few fixed batches, over and over."""

    def __init__(self, dtype, device="cpu"):
        super().__init__()
        self.real = torch.stack([numbered(seed, dtype) for seed in range(3)]).to(device)
        self.place = torch.zeros((), dtype=torch.int64, device=device)

    def draw(self):
        self.place += 1
        return self.real.index_select(0, ((self.place - 1) % 3).view(1))[0], None

    def _prepare(self):
        pass

    def _restart(self, drawn):
        self.place.fill_(drawn)


def make_loop(scheme, engine, loss="nonsaturating", *, dtype=torch.float64, device="cpu", networks=None, **options):
    generator, discriminator = (copy.deepcopy(n).to(device) for n in (networks or make_networks(dtype=dtype)))
    optimizers = [
        osgan.optim.build_optimizer("adam", n.parameters(), 1e-3, (0.5, 0.9)) for n in (generator, discriminator)
    ]
    step = osgan.build_scheme(
        scheme, generator, discriminator, *optimizers, loss=loss, latent=latent_of(dtype), **options
    )
    torch.manual_seed(7)
    return Loop(step, Repeat(dtype, device), engine)


def weights_after(loop, steps=NUM_STEPS):
    stats = [loop.step() for _ in range(steps)]
    losses = torch.stack([torch.stack(list(pair)) for pair in stats])
    return [*(p.detach().clone() for p in loop.state()), losses]
