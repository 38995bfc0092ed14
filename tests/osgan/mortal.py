"""A user's networks, one of whose processes does not survive: `mortal:build+at=70+how=raise`, in its first life."""

import os

from torch import nn

from osgan.nets.dcgan import dcgan


class Mortal(nn.Module):
    """G that ends process 1 at its n-th forward pass in training."""

    def __init__(self, generator, at, how):
        super().__init__()
        self.generator, self.at, self.how = generator, at, how
        self.latent_dim = 8
        self.calls = 0

    def forward(self, z):
        self.calls += self.training
        first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if self.calls == self.at and os.environ.get("RANK") == "1" and first_life:
            if self.how == "exit":
                os._exit(7)
            raise RuntimeError("the cause of it all")
        return self.generator(z)


def build(channels, resolution=16, at=0, how="exit"):
    generator, discriminator = dcgan(resolution=resolution, width=4, channels=channels, latent_dim=8, norm="group")
    return Mortal(generator, at, how), discriminator
