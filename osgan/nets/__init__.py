"""Networks by name or by import path. One file per family; resolution, width and channels are arguments."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from osgan import spec
from osgan.errors import InputError
from osgan.latent import Gaussian, Latent
from osgan.nets.cat import cat
from osgan.nets.dcgan import cdcgan, dcgan
from osgan.nets.gat import cgat, gat
from osgan.nets.mlp import mlp
from osgan.nets.r3gan import r3gan
from osgan.nets.sagan import csagan, sagan
from osgan.nets.sizes import bounded, check_resolution, is_count
from osgan.nets.sngan import csngan, sngan
from osgan.nets.stylegan2 import stylegan2

ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "mlp": mlp,
    "dcgan32": partial(dcgan, resolution=32),
    "dcgan64": partial(dcgan, resolution=64),
    "dcgan128": partial(dcgan, resolution=128),
    "cdcgan32": partial(cdcgan, resolution=32),
    "cdcgan64": partial(cdcgan, resolution=64),
    "cdcgan128": partial(cdcgan, resolution=128),
    "sngan32": partial(sngan, resolution=32),
    "sngan48": partial(sngan, resolution=48),
    "sngan64": partial(sngan, resolution=64),
    "sngan128": partial(sngan, resolution=128),
    "csngan32": partial(csngan, resolution=32),
    "csngan48": partial(csngan, resolution=48),
    "csngan64": partial(csngan, resolution=64),
    "csngan128": partial(csngan, resolution=128),
    "sagan32": partial(sagan, resolution=32),
    "sagan64": partial(sagan, resolution=64),
    "sagan128": partial(sagan, resolution=128),
    "csagan32": partial(csagan, resolution=32),
    "csagan64": partial(csagan, resolution=64),
    "csagan128": partial(csagan, resolution=128),
    "r3gan32": partial(r3gan, resolution=32),
    "r3gan64": partial(r3gan, resolution=64),
    "gat32": partial(gat, resolution=32),
    "gat64": partial(gat, resolution=64),
    "cgat32": partial(cgat, resolution=32),
    "cgat64": partial(cgat, resolution=64),
    "cat32": partial(cat, resolution=32),
    "cat64": partial(cat, resolution=64),
    "stylegan2_64": partial(stylegan2, resolution=64),
    "stylegan2_128": partial(stylegan2, resolution=128),
}
"""The paper's width and latents unless an option says otherwise; those of a conditional family need labels."""

DEFAULT_RESOLUTION = 32


@dataclass(frozen=True)
class Networks:
    """A generator, a discriminator and the latents they are trained with."""

    generator: nn.Module
    discriminator: nn.Module
    latent: Latent
    num_classes: int | None = None
    """Classes whose labels G and D are called with; None for networks that take no labels."""


def resolution_of(architecture: str) -> int:
    """Return the image size in pixels that an architecture `dcgan64+width=32` or `package.module:build` is trained at.

    A user's builder is trained at its option `resolution`, 32 if it is not given.
    """
    parsed = spec.parse(architecture)
    builder = spec.resolve("architecture", parsed.name, ARCHITECTURES)
    known = builder.keywords if isinstance(builder, partial) else {}
    resolution = dict(parsed.options).get("resolution", known.get("resolution", DEFAULT_RESOLUTION))
    if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 1:
        raise InputError(
            f"architecture {architecture!r}: resolution must be a whole number of pixels above 0, got {resolution!r}"
        )
    check_resolution(f"architecture {architecture!r}", resolution)
    return resolution


def build(architecture: str, *, channels: int, num_classes: int | None = None) -> Networks:
    """Build an architecture for images of that many channels.

    A user's builder at an import path is called with its options and with those of `resolution`, `channels` and
    `num_classes` that its signature takes; it returns (G, D) or (G, D, latent). Without a latent of its own, G's
    attribute `latent_dim` gives the size of standard normal latents. A builder that takes `num_classes` is conditional:
    its networks are called with labels. Raises InputError for what cannot be built.
    """
    parsed = spec.parse(architecture)
    builder = spec.resolve("architecture", parsed.name, ARCHITECTURES)
    if "num_classes" in dict(parsed.options):
        raise InputError(f"architecture {architecture!r}: num_classes comes from the data set; leave the option out")
    with bounded(f"architecture {architecture!r}"):
        built = spec.call(
            "architecture",
            parsed,
            builder,
            resolution=resolution_of(architecture),
            channels=channels,
            num_classes=num_classes,
        )
    kinds = [type(part).__name__ for part in built] if isinstance(built, tuple | list) else type(built).__name__
    if not isinstance(built, tuple) or len(built) not in (2, 3):
        raise InputError(
            f"architecture {architecture!r} must return a tuple (generator, discriminator[, latent]), got {kinds}"
        )
    if not all(isinstance(net, nn.Module) for net in built[:2]):
        raise InputError(
            f"architecture {architecture!r} must return (generator, discriminator), two nn.Modules, got {kinds}"
        )
    if len(built) == 3 and not callable(built[2]):
        raise InputError(
            f"architecture {architecture!r} returns {kinds[2]} as its latent: it must be a callable (n, device) -> "
            "latents, such as osgan.Gaussian(100)"
        )
    conditional = num_classes if "num_classes" in inspect.signature(builder).parameters else None
    if len(built) == 3:
        return Networks(*built, num_classes=conditional)
    generator, discriminator = built
    latent_dim = getattr(generator, "latent_dim", None)
    if not is_count(latent_dim):
        raise InputError(
            f"architecture {architecture!r}: which latents? Give the generator an integer attribute latent_dim, or "
            "return a third value, a callable (n, device) -> latents"
        )
    return Networks(generator, discriminator, Gaussian(latent_dim), conditional)
