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
from osgan.nets.dcgan import dcgan

ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "dcgan32": partial(dcgan, resolution=32),
    "dcgan64": partial(dcgan, resolution=64),
    "dcgan128": partial(dcgan, resolution=128),
}

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
    built = spec.call(
        "architecture",
        parsed,
        builder,
        resolution=resolution_of(architecture),
        channels=channels,
        num_classes=num_classes,
    )
    if not isinstance(built, tuple) or len(built) not in (2, 3):
        raise InputError(f"architecture {architecture!r} must return a tuple (generator, discriminator[, latent])")
    if not all(isinstance(net, nn.Module) for net in built[:2]):
        raise InputError(f"architecture {architecture!r} must return (generator, discriminator), two nn.Modules")
    conditional = num_classes if "num_classes" in inspect.signature(builder).parameters else None
    if len(built) == 3:
        return Networks(*built, num_classes=conditional)
    generator, discriminator = built
    if not isinstance(latent_dim := getattr(generator, "latent_dim", None), int):
        raise InputError(
            f"architecture {architecture!r}: which latents? Give the generator an integer attribute latent_dim, or "
            "return a third value, a callable (n, device) -> latents"
        )
    return Networks(generator, discriminator, Gaussian(latent_dim), conditional)
