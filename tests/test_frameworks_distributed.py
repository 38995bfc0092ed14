"""`osgan.backward` in two processes of Lightning and of Accelerate: the steps are those of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import softplus
from torch.nn.utils import clip_grad_norm_

from osgan import nets
from tests.frameworks_worker import image, latents

HERE = Path(__file__).parent


def expected(accumulate, limit):
    """Return both networks after two steps of plain PyTorch in float64."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    G, D = nets.dcgan(resolution=16, width=8, channels=1)
    torch.set_default_dtype(before)
    for step in range(2):
        calls = range(step * accumulate, (step + 1) * accumulate)
        fakes = torch.cat([G(latents(call, rank)) for call in calls for rank in (0, 1)])
        on_real, on_fake = D(image()), D(fakes)
        losses = softplus(-on_fake).mean(), softplus(-on_real).mean() + softplus(on_fake).mean()
        for network, loss in zip((G, D), losses, strict=True):
            weights = list(network.parameters())
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
                weight.grad = gradient
        for network in (G, D):
            clip_grad_norm_(network.parameters(), limit)
            torch.optim.SGD(network.parameters(), 1.0).step()
    return G, D


@pytest.mark.parametrize(("framework", "accumulate", "limit"), [("lightning", 1, 1e6), ("accelerate", 2, 1.0)])
def test_two_processes_take_the_step_of_one(framework, accumulate, limit, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [*launch, HERE / "frameworks_worker.py", framework, tmp_path],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        states = torch.load(tmp_path / f"{rank}.pt")
        for network, state in zip(expected(accumulate, limit), states, strict=True):
            names, weights = zip(*network.named_parameters(), strict=True)
            theirs, mine = (
                torch.cat([w.detach().flatten() for w in ws]) for ws in ([state[n] for n in names], weights)
            )
            assert (theirs - mine).norm() <= 1e-10 * mine.norm()
    assert {path.name for path in tmp_path.iterdir()} == {"0.pt", "1.pt"}
