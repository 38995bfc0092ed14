"""README's code runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

from osgan import nets

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("place", [0, 1])
def test_the_api_in_ten_lines_runs(place):
    code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[place]
    G, D = nets.dcgan(resolution=16, width=4, channels=1)
    before = G[0].weight.clone()
    names = {
        "build_generator": lambda: G,
        "build_discriminator": lambda: D,
        "batches": [torch.rand(4, 1, 16, 16) * 2 - 1 for _ in range(2)],
    }
    exec(code, names)
    if place == 0:  # a loop of one's own, without its optimizers
        assert all(p.grad.isfinite().all() and p.grad.any() for n in (G, D) for p in n.parameters())
    else:
        assert torch.isfinite(names["stats"].generator_loss)
        assert not torch.equal(G[0].weight, before)


def test_it_has_no_other_python():
    assert README.count("```python") == 2


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
