"""Discriminators that one-stage is not for, each found for its own reason; what ships is held in test_architectures."""

import re
from functools import partial

import pytest
import torch
from reference import ASYMMETRIC, EXACT
from torch import nn

import osgan
from osgan import nets


class MinibatchStddev(nn.Module):
    """StyleGAN2's: one more channel with how much the batch scatters."""

    def forward(self, x):
        scatter = x.var(0, correction=0).add(1e-8).sqrt().mean()
        return torch.cat([x, scatter.expand(x.shape[0], 1, *x.shape[2:])], dim=1)


def build(architecture):
    return nets.build(f"{architecture}+resolution=16+latent_dim=5", channels=2)


def batch_norm():
    return build("dcgan32+width=4+norm=batch").discriminator


def minibatch_stddev():
    *before, _, activation, flatten, first, second, last = build("stylegan2_64+width=8").discriminator
    return nn.Sequential(
        *before, MinibatchStddev(), nn.Conv2d(9, 8, 3, padding=1), activation, flatten, first, second, last
    )


def patch_gan():
    return nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4, 2, 1))


def auxiliary_classifier():
    return nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 11))


@pytest.mark.parametrize("loss", ASYMMETRIC)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (batch_norm, "mixes samples: the score of one image moves with other images of the batch"),
        (minibatch_stddev, "mixes samples: the score of one image moves with other images of the batch"),
        (patch_gan, r"gives 16 logits per image \(PatchGAN or auxiliary heads\)"),
        (auxiliary_classifier, r"gives 11 logits per image \(PatchGAN or auxiliary heads\)"),
    ],
)
def test_discriminators_that_one_stage_is_not_for(make, reason, loss):
    generator, discriminator = build("dcgan32+width=4").generator.double(), make().double()
    real = torch.rand(4, 2, 16, 16, dtype=torch.float64) * 2 - 1
    result = osgan.verify(generator, discriminator, loss, real, partial(osgan.Gaussian(5), dtype=torch.float64))
    assert not result.exact
    assert re.search(reason, result.reason)
    if make in (batch_norm, minibatch_stddev) and loss != "hinge":  # hinge's ratio is -1 for every fake above -1
        assert result.generator_error > 1e3 * EXACT[torch.float64]  # not only said, measured
