"""One process of an example under a framework: python frameworks_worker.py lightning|accelerate FOLDER.

Writes the weights after two steps. Float64 and plain gradient descent; the real images are all the same, since who
gets which is the framework's choice; latents are told from the call's number and the process.
"""

import importlib
import os
import sys
import warnings

import torch

from osgan import data

GIVEN = {
    "lightning": {"enable_progress_bar": False, "enable_model_summary": False, "devices": 2, "strategy": "ddp"},
    "accelerate": {},
}
IMAGES = {"lightning": 2 * 2 * 32, "accelerate": 2 * 2 * 2 * 32}
"""Steps, processes, accumulated batches, batch size."""


def image():
    return torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def latents(call, rank, n=32):
    rng = torch.Generator().manual_seed(1000 + 2 * call + rank)
    return torch.empty(n, 100, dtype=torch.float64).normal_(generator=rng)


class SameImages:
    def __init__(self, n):
        self.n = n

    def images(self, n):
        return image().repeat(self.n, 1, 1, 1)


def main(framework, folder):
    warnings.simplefilter("ignore")
    rank, calls = int(os.environ["RANK"]), iter(range(100))
    torch.set_default_dtype(torch.float64)
    torch.randn = lambda *_, **__: latents(next(calls), rank)
    torch.optim.Adam = lambda weights, *_: torch.optim.SGD(weights, 1.0)
    data.load = lambda *_, **__: SameImages(IMAGES[framework])
    torch.manual_seed(0)
    found = importlib.import_module(f"examples.with_{framework}").main(epochs=1, **GIVEN[framework])
    G, D = (found.G, found.D) if framework == "lightning" else found
    torch.save([G.state_dict(), D.state_dict()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
