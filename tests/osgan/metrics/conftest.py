import sys
import types

import pytest
import torch
from torch import nn

from osgan import data


class Pixels(nn.Module):
    """Features are the pixels of the red channel, so their moments are those of the images."""

    def __init__(self, scale):
        super().__init__()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.seen = []

    def forward(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        self.seen.append(images.clone())
        return images[:, 0].flatten(1) * self.scale

    @property
    def num_seen(self):
        return sum(map(len, self.seen))


@pytest.fixture
def stub(monkeypatch):
    """A user's module: `stub.built` holds the extractors built, `stub.Extractor` the class that is built."""
    module = types.ModuleType("stub_extractors")
    module.Extractor = Pixels
    module.built = []

    def build(scale=1.0):
        module.built.append(module.Extractor(scale))
        return module.built[-1]

    module.pixels = build
    monkeypatch.setitem(sys.modules, "stub_extractors", module)
    return module


@pytest.fixture(scope="session")
def digits():
    return data.load("digits", resolution=32, device="cpu")


@pytest.fixture
def replay():
    """Return a function that makes a generator out of a set of images: it hands them out in their order."""

    def make(images):
        rest = list(images)

        def generate(n):
            batch, rest[:] = rest[:n], rest[n:]
            return torch.stack(batch)

        return generate

    return make
