"""torch-fidelity's Inception-v3, the network of FID; weights by path, from the cache of torch.hub, or downloaded."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor
from torch_fidelity import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.utils import create_feature_extractor

from osgan.errors import InputError

NAME = "inception-v3-compat"
LAYER = "2048"
LOGITS = "logits_unbiased"

# Of weights-inception-2015-12-05-6726825d.pth, the conversion that torch-fidelity and pytorch-fid share.
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def load(weights: str | Path | None, *, logits: bool) -> tuple[FeatureExtractorBase, str]:
    """Return Inception, with its class scores if `logits`, and the SHA-256 of its weights file.

    `weights` is a file of torch.save or of safetensors. Raises InputError for weights that are not there, cannot be
    downloaded, or are of another network.
    """
    path = Path(weights).expanduser() if weights is not None else _cached()
    try:
        written = path.read_bytes()
    except OSError as error:
        raise InputError(f"Inception weights {str(path)!r} cannot be read ({error}). {_three_ways()}") from error
    try:
        # torch-fidelity would unpickle the file as it is: it is handed what a reader that runs no code found in it.
        rewritten = io.BytesIO()
        torch.save(_tensors(path, written), rewritten)
        rewritten.seek(0)
        module = create_feature_extractor(
            NAME,
            [LAYER, LOGITS] if logits else [LAYER],
            cuda=False,
            verbose=False,
            feature_extractor_weights_path=rewritten,
        )
    except Exception as error:  # whatever the bytes of a foreign file make the readers raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"Inception weights {str(path)!r} do not fit {NAME} ({reason}). {_three_ways()}") from error
    return module.to(memory_format=torch.channels_last), hashlib.sha256(written).hexdigest()


def _tensors(path: Path, written: bytes) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_safetensors(written)
    return torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)


def _cache_path() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]


def _cached() -> Path:
    path = _cache_path()
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=PUBLISHED_SHA256, progress=False)
    except (OSError, RuntimeError) as error:  # no network, no room, or not the file it should be
        raise InputError(f"the Inception weights cannot be downloaded ({error}). {_three_ways()}") from error
    return path


def _three_ways() -> str:
    return (
        f"Three ways: give a file with --inception-weights PATH; put it at {_cache_path()} (from {URL_INCEPTION_V3}); "
        "or use the extractor efficientnet-lite0, which needs no network"
    )
