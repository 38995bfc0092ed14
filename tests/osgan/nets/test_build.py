import pytest
import torch
from torch import nn

import osgan
from osgan import nets


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("dcgan32+norm=layer", "norm must be one of batch, group, none, got 'layer'"),
        ("dcgan32+norm=[1]", "norm"),
        ("dcgan32+width=0", "width must be a whole number above 0, got 0"),
        ("dcgan32+width=2.5", "width"),
        ("dcgan32+width=wide", "width"),
        ("dcgan32+latent_dim=-1", "latent_dim"),
        ("dcgan32+resolution=24", "resolution must be a power of two from 16 up, got 24"),
        ("dcgan32+resolution=8", "resolution"),
        ("dcgan32+resolution=big", "resolution"),
        ("dcgan32+resolution=32.5", "resolution"),
        ("dcgan32+depth=3", "unknown option 'depth'.*width"),
        ("dcgan23", r"unknown architecture 'dcgan23'\. Did you mean 'dcgan"),
        ("no_such_module:build", "cannot import 'no_such_module'"),
        ("reference:no_such_builder", "has no 'no_such_builder'"),
    ],
)
def test_what_cannot_be_built(architecture, message):
    with pytest.raises(osgan.InputError, match=message):
        nets.build(architecture, channels=3)


def test_channels_are_checked():
    with pytest.raises(osgan.InputError, match="channels must be a whole number above 0, got 0"):
        nets.build("dcgan32", channels=0)


class WithoutLatentDim(nn.Linear):
    pass


RETURNED = {
    "one": lambda: nn.Linear(1, 1),
    "list": lambda: [nn.Linear(1, 1), nn.Linear(1, 1)],
    "single": lambda: (nn.Linear(1, 1),),
    "empty": lambda: (),
    "four": lambda: (nn.Linear(1, 1), nn.Linear(1, 1), osgan.Gaussian(1), 3),
    "functions": lambda: (print, print),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_a_builder_must_return_two_modules(kind, monkeypatch):
    monkeypatch.setitem(nets.ARCHITECTURES, kind, RETURNED[kind])
    with pytest.raises(osgan.InputError, match=r"must return .*generator, discriminator"):
        nets.build(kind, channels=1)


def test_a_users_builder(monkeypatch):
    seen = {}

    def build(channels, resolution, num_classes, depth=1):
        seen.update(channels=channels, resolution=resolution, num_classes=num_classes, depth=depth)
        return WithoutLatentDim(1, 1), nn.Linear(1, 1), torch.zeros

    monkeypatch.setitem(nets.ARCHITECTURES, "mine", build)
    built = nets.build("mine+depth=3+resolution=48", channels=2, num_classes=10)
    assert seen == {"channels": 2, "resolution": 48, "num_classes": 10, "depth": 3}
    assert built.latent is torch.zeros
    assert nets.resolution_of("mine") == 32


def test_latents_must_be_known(monkeypatch):
    monkeypatch.setitem(nets.ARCHITECTURES, "mine", lambda: (WithoutLatentDim(1, 1), nn.Linear(1, 1)))
    with pytest.raises(osgan.InputError, match="latent_dim"):
        nets.build("mine", channels=1)


def test_classes_are_passed_on_to_builders_that_take_them_alone():
    assert nets.build("dcgan32+width=4", channels=1, num_classes=10).num_classes is None
    assert nets.build("cdcgan32+width=4", channels=1, num_classes=10).num_classes == 10


def test_classes_come_from_the_data_set():
    with pytest.raises(osgan.InputError, match="num_classes comes from the data set; leave the option out"):
        nets.build("cdcgan32+num_classes=5", channels=1, num_classes=10)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("cdcgan32+resolution=24", "cdcgan: resolution must be a power of two from 16 up, got 24"),
        ("cdcgan32+norm=layer", "cdcgan: norm must be one of batch, group, none, got 'layer'"),
        ("dcgan32+width=True", "dcgan: width must be a whole number above 0, got True"),
        ("sngan32+resolution=40", "sngan: resolution must be one of 32, 48, 64, 128, got 40"),
        ("csngan32+width=0", "csngan: width must be a whole number above 0, got 0"),
        ("sagan64+resolution=16", "sagan: resolution must be one of 32, 48, 64, 128, got 16"),
        ("csagan32+latent_dim=1.5", "csagan: latent_dim must be a whole number above 0, got 1.5"),
        ("r3gan32+resolution=8", "r3gan: resolution must be a power of two from 16 up, got 8"),
        ("r3gan32+width=100", "r3gan: width must be a multiple of 8, got 100; the nearest is 96"),
        ("r3gan64+width=3", "r3gan: width must be a multiple of 16, got 3; the nearest is 16"),
        ("r3gan32+blocks=0", "r3gan: blocks must be a whole number above 0, got 0"),
        ("stylegan2_64+resolution=48", "stylegan2: resolution must be a power of two from 16 up, got 48"),
        ("stylegan2_128+width=6", "stylegan2: width must be a multiple of 4, got 6; the nearest is 8"),
        ("stylegan2_64+mapping_layers=0", "stylegan2: mapping_layers must be a whole number above 0, got 0"),
        ("gat32+resolution=30+patch_size=4", "gat: resolution must be a multiple of 4, got 30; the nearest is 32"),
        ("gat32+patch_size=0", "gat: patch_size must be a whole number above 0, got 0"),
        ("gat64+width=100+heads=6", "gat: width must be a multiple of 6, got 100; the nearest is 102"),
        ("gat32+depth=100000", "gat: depth must be at most 256, got 100,000"),
        ("gat32+checkpoint=2", "gat: checkpoint must be one of False, True, got 2"),
        ("cgat32+heads=0", "cgat: heads must be a whole number above 0, got 0"),
        ("cat32+scales=1", "cat: scales must be one of 2, 3, 4, 5, 6, 7, 8, got 1"),
        ("cat32+scales=4+patch_size=8", "cat: resolution must be a multiple of 64, got 32; the nearest is 64"),
        ("cat32+depth=2", "cat: depth must be at least the number of scales, 3, got 2"),
        ("mlp+depth=0", "mlp: depth must be a whole number above 0, got 0"),
        ("mlp+depth=100000", "mlp: depth must be at most 256, got 100,000"),
        ("r3gan32+blocks=100000", "r3gan: blocks must be at most 256, got 100,000"),
        ("stylegan2_64+mapping_layers=100000", "stylegan2: mapping_layers must be at most 256, got 100,000"),
        ("mlp+width=1000000000", "mlp: width must be at most 1,048,576, got 1,000,000,000"),
        ("mlp+resolution=99999999", "resolution must be at most 4,096 pixels, got 99,999,999"),
        ("mlp+shape=2", r"mlp: shape must be a tuple of sizes as in \(2,\) or \(3, 8, 8\), got 2"),
        ("mlp+shape=(2,0)", "mlp: every size of shape must be a whole number above 0, got 0"),
        ("mlp+resolution=8.5", "resolution must be a whole number of pixels above 0, got 8.5"),
    ],
)
def test_sizes_that_cannot_be_built(architecture, message):
    with pytest.raises(osgan.InputError, match=message):
        nets.build(architecture, channels=3, num_classes=3)


@pytest.mark.parametrize("name", [n for n in nets.ARCHITECTURES if n[0] == "c" and not n.startswith("cat")])
def test_a_conditional_pair_needs_labels(name):
    family = name.rstrip("0123456789")
    message = f"{family} is conditional and the data set has no labels .*; use {family[1:]}, or a data set with labels"
    with pytest.raises(osgan.InputError, match=message):
        nets.build(name, channels=3)
    with pytest.raises(osgan.InputError, match=f"{family}: num_classes must be a whole number above 0, got 0"):
        nets.build(name, channels=3, num_classes=0)
