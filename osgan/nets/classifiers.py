"""Image classifiers for distillation at 32x32: LeNet5 and its half (LeCun et al. 1998), ResNet18 and ResNet34.

The widths and the 3x3 stem are those of data-free adversarial distillation (Fang et al. 2019). All return raw logits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from osgan import spec
from osgan.errors import InputError
from osgan.extras import needed
from osgan.nets.sizes import bounded

with needed("train"):
    from torchvision.models.resnet import BasicBlock, ResNet


class LeNet5(nn.Module):
    """Images (N, channels, 32, 32) -> logits (N, num_classes); `width` scales the 6, 16, 120 and 84 features."""

    def __init__(self, num_classes: int, channels: int, width: float) -> None:
        super().__init__()
        first, second, third, hidden = (max(1, round(width * features)) for features in (6, 16, 120, 84))
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(channels, first, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(second, third, 5), nn.ReLU(), nn.Flatten()),
        )
        self.hidden = nn.Sequential(nn.Linear(third, hidden), nn.ReLU())
        self.last = nn.Linear(hidden, num_classes)

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and what the last layer reads, (N, F)."""
        features = self.hidden(self.convolutions(images))
        return self.last(features), features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.with_features(images)[0]


class SmallImageResNet(ResNet):
    """torchvision's ResNet with a 3x3 stem of stride 1 and no pooling after it: 32x32 images end at 4x4 features."""

    def __init__(self, blocks: list[int], num_classes: int, channels: int) -> None:
        super().__init__(BasicBlock, blocks, num_classes)
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and what the last layer reads, (N, 512)."""
        features = self.relu(self.bn1(self.conv1(images)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
        features = self.avgpool(features).flatten(1)
        return self.fc(features), features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.with_features(images)[0]


def lenet5(*, num_classes: int = 10, channels: int = 1, width: float = 1.0) -> LeNet5:
    """Build a LeNet5; raises InputError for a width or class count that cannot be built."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 64:
        raise InputError(f"lenet5: width must be a number above 0 and at most 64, got {width!r}")
    return LeNet5(_class_count("lenet5", num_classes), channels, width)


def resnet(blocks: list[int], *, num_classes: int = 10, channels: int = 3) -> SmallImageResNet:
    """Build a ResNet of two-convolution blocks, so many in each of its four stages."""
    return SmallImageResNet(blocks, _class_count("resnet", num_classes), channels)


CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "lenet5": lenet5,
    "lenet5_half": partial(lenet5, width=0.5),
    "resnet18": partial(resnet, [2, 2, 2, 2]),
    "resnet34": partial(resnet, [3, 4, 6, 3]),
}


def build_classifier(classifier: str, *, num_classes: int, channels: int) -> nn.Module:
    """Build a classifier `lenet5+width=2` or `package.module:build` for that many classes and channels.

    A user's builder gets those of `num_classes` and `channels` that its signature takes, and returns an nn.Module from
    images (N, C, 32, 32) to logits (N, num_classes). Raises InputError for what cannot be built.
    """
    parsed = spec.parse(classifier)
    builder = spec.resolve("classifier", parsed.name, CLASSIFIERS)
    with bounded(f"classifier {classifier!r}"):
        built = spec.call("classifier", parsed, builder, num_classes=num_classes, channels=channels)
    if not isinstance(built, nn.Module):
        raise InputError(f"classifier {classifier!r} must return an nn.Module, got {type(built).__name__}")
    return built


def _class_count(name: str, num_classes: int) -> int:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise InputError(f"{name}: num_classes must be a whole number above 1, got {num_classes!r}")
    return num_classes
