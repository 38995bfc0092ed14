"""A feature extractor by name: Inception, the offline EfficientNet-Lite0, or a user's own network.

All are torch-fidelity feature extractors: uint8 RGB images in, float32 features out, in full precision and without
gradients whatever the training around them does. No pickled code of a weights file is ever run.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase
from torch_fidelity.utils import create_feature_extractor

from osgan import spec
from osgan.errors import InputError
from osgan.metrics import efficientnet, inception
from osgan.precision import full_precision

BUILT_IN = (inception.NAME, efficientnet.NAME)

# On a CPU larger batches fall out of its caches: at 224 pixels batches of 64 take three times as long as of 4.
CPU_PIXELS = 2**18


@dataclass(frozen=True)
class Extractor:
    """A feature extractor on its device and what a result must say about it."""

    name: str
    label: str | None
    """What follows `FD-` in the names of values; None for Inception, whose values have names of their own."""
    module: FeatureExtractorBase
    layer: str
    weights_sha256: str
    cpu_batch_size: int | None = None
    notes: tuple[str, ...] = ()

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features, by layer, of uint8 images (N, C, H, W) on the extractor's device.

        They are float32 (N, F), on the CPU. Grey images, C = 1, are repeated to RGB. Raises InputError for features of
        another shape or not finite.
        """
        size = self.cpu_batch_size if images.device.type == "cpu" else None
        parts: list[dict[str, Tensor]] = []
        with torch.inference_mode(), full_precision(images.device):
            for batch in images.expand(-1, 3, -1, -1).split(size or len(images)):
                features = self.module.convert_features_tuple_to_dict(self.module(batch))
                parts.append({layer: self._checked(rows, batch) for layer, rows in features.items()})
        return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}

    def _checked(self, features: Any, images: Tensor) -> Tensor:
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(
                f"extractor {self.name!r}: for images {tuple(images.shape)} it must return features "
                f"({len(images)}, F), one row an image; it returned {found}"
            )
        features = features.to("cpu", torch.float32)
        if not features.isfinite().all():
            raise InputError(f"extractor {self.name!r}: its features of finite images are not finite")
        return features


def load(text: str, *, device: torch.device, logits: bool, inception_weights: str | Path | None) -> Extractor:
    """Return the extractor called `text` on the device; `logits` says whether it must give class scores too.

    `inception-v3-compat`, `efficientnet-lite0[+size=PIXELS]`, or package.module:object+option=value: a callable that
    returns an nn.Module, uint8 images (N, 3, H, W) on the device -> features (N, F). Raises InputError.
    """
    parsed = spec.parse(text)
    builder = spec.resolve("extractor", parsed.name, dict.fromkeys(BUILT_IN))
    if parsed.name != inception.NAME and inception_weights is not None:
        raise InputError(f"weights {str(inception_weights)!r} are for {inception.NAME}, the extractor is {text!r}")
    if parsed.name != inception.NAME and logits:
        raise InputError(f"metric 'isc' needs the class scores of {inception.NAME}, the extractor is {text!r}")
    if parsed.name == inception.NAME:
        if parsed.options:
            raise InputError(f"extractor {text!r}: {inception.NAME} takes no options")
        extractor = _inception(inception_weights, logits=logits)
    elif parsed.name == efficientnet.NAME:
        extractor = spec.call("extractor", parsed, _efficientnet)
    else:
        extractor = _users(str(parsed), spec.call("extractor", parsed, builder))
    extractor.module.to(device).eval().requires_grad_(False)
    return extractor


def _inception(weights: str | Path | None, *, logits: bool) -> Extractor:
    module, sha256 = inception.load(weights, logits=logits)
    foreign = f"Inception weights are not the published ones ({inception.PUBLISHED_SHA256[:8]}): no other FID compares"
    return Extractor(
        name=inception.NAME,
        label=None,
        module=module,
        layer=inception.LAYER,
        weights_sha256=sha256,
        cpu_batch_size=4,
        notes=() if sha256 == inception.PUBLISHED_SHA256 else (foreign,),
    )


def _efficientnet(size: int = efficientnet.DEFAULT_SIZE) -> Extractor:
    name, smallest = efficientnet.NAME, efficientnet.SMALLEST_SIZE
    if isinstance(size, bool) or not isinstance(size, int) or size < smallest:
        raise InputError(f"extractor {name!r}: size must be a whole number of pixels from {smallest}, got {size!r}")
    module = create_feature_extractor(name, [efficientnet.LAYER], cuda=False, verbose=False, size=size)
    default = size == efficientnet.DEFAULT_SIZE
    return Extractor(
        name=name if default else f"{name}+size={size}",
        label="EfficientNetLite0" if default else f"EfficientNetLite0@{size}",
        module=module,
        layer=efficientnet.LAYER,
        weights_sha256=module.weights_sha256,
        cpu_batch_size=max(1, CPU_PIXELS // size**2),
    )


def _users(name: str, module: object) -> Extractor:
    if not isinstance(module, nn.Module):
        raise InputError(f"extractor {name!r} must return an nn.Module, it returned {type(module).__name__}")
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return Extractor(
        name=name,
        label=name,
        module=_UsersExtractor(name, module),
        layer="features",
        weights_sha256=digest.hexdigest(),
    )


class _UsersExtractor(FeatureExtractorBase):
    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__(name, ["features"])
        self.module = module

    def forward(self, images: Tensor) -> tuple[Any]:
        return (self.module(images),)

    @staticmethod
    def get_provided_features_list() -> tuple[str]:
        return ("features",)
