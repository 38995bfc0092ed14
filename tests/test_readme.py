"""README's code runs as it stands."""

import re
from pathlib import Path

import torch

from osgan import nets

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_api_in_ten_lines_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    G, D = nets.dcgan(resolution=16, width=4, channels=1)
    before = G[0].weight.clone()
    names = {
        "build_generator": lambda: G,
        "build_discriminator": lambda: D,
        "batches": [torch.rand(4, 1, 16, 16) * 2 - 1 for _ in range(2)],
    }
    exec(code, names)
    assert torch.isfinite(names["stats"].generator_loss)
    assert not torch.equal(G[0].weight, before)


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
