"""What two processes find out of a loop of one's own, in DistributedDataParallel; see distributed_checks.py."""

import copy
import itertools

import torch
from reference import LATENT_DIM, TEXTBOOK, make_discriminator, make_real, relative_error
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import osgan
from osgan.parallel import processes
from osgan.parallel.ddp import BROADCAST_BUFFERS

BATCH = 6  # of both processes together


def fill(G, D, loss, real, z, logits):
    of_d, of_g = TEXTBOOK[loss]
    fake = G(z)
    leaf = osgan.tap(fake)
    r, f = D(real), D(leaf)
    extra = (fake - real).abs().mean()
    return osgan.backward(leaf, of_d(r, f), of_g(r, f), extra=extra, logits=(r, f) if logits else None)


def own_loop(folder):
    """How far two processes are from one with the whole batch, what they reduce, and when."""
    from distributed_checks import generator  # which imports this module

    found = {}
    for loss, logits in itertools.product(("nonsaturating", "hinge", "wgan"), (False, True)):
        torch.manual_seed(5)
        players = generator(), make_discriminator("group").double()
        real, z = make_real(batch=BATCH), torch.randn(BATCH, LATENT_DIM, dtype=torch.float64)
        whole = copy.deepcopy(players)
        fill(*whole, loss, real, z, logits)
        rows = processes.local_rows(BATCH, 1)
        wrapped = [DistributedDataParallel(n, **{BROADCAST_BUFFERS: False}) for n in players]
        events = []
        for name, network in zip("GD", wrapped, strict=True):
            network.register_comm_hook(name, lambda name, bucket, to=events: _noted(to, name, bucket))
            for weight in network.parameters():
                weight.register_post_accumulate_grad_hook(lambda _, name=name, to=events: to.append((name, 0)))
        did = fill(*wrapped, loss, real[rows], z[rows], logits)
        sizes = {name: sum(p.numel() for p in n.parameters()) for name, n in zip("GD", players, strict=True)}
        found[f"{loss}/{logits}"] = {
            "passes": did.passes,
            "errors": [
                relative_error([p.grad for p in n.parameters()], [p.grad for p in w.parameters()])
                for n, w in zip(players, whole, strict=True)
            ],
            "reduced": {name: sum(n for who, n in events if who == name) / sizes[name] for name in "GD"},
            "overlapped": events.index(("G", 0)) > min(i for i, (who, n) in enumerate(events) if who == "D" and n),
        }
    return found


def _noted(events, name, bucket):
    events.append((name, bucket.buffer().numel()))
    return allreduce_hook(None, bucket)
