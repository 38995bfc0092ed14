"""Labelled images of a data set, a part of them held out: to train the teacher, and to measure accuracies.

Images are standardised by the mean and deviation of the training part, as the published classifiers have them. A set of
torchvision's has a test split of its own; of any other, a fifth is held out, the last of one fixed permutation.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from osgan.data.builtin import TORCHVISION_SETS
from osgan.data.dataset import DecodedImages
from osgan.data.raw import Source, in_memory
from osgan.data.sources import Root, find_root, read
from osgan.errors import InputError
from osgan.modes import evaluating

RESOLUTION = 32
HELD_OUT = 0.2
EVALUATION_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """uint8 images (M, C, H, W) and int64 labels (M,) on one device."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Split:
    """The training and the test part of a data set; `held_out` says where the test part comes from."""

    name: str
    train: LabelledImages
    test: LabelledImages
    num_classes: int
    mean: Tensor
    std: Tensor
    held_out: str

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.train.images.shape[1]

    def standardise(self, images: Tensor) -> Tensor:
        """Return uint8 images as float32 of mean 0 and deviation 1 over the training part, channel by channel."""
        return (images.float() / 255 - self.mean) / self.std

    def fingerprint(self) -> str:
        """Return a hash of the training part: a teacher trained on other images is another teacher."""
        digest = hashlib.sha256()
        for tensor in (self.train.images, self.train.labels):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def accuracy(self, network: nn.Module) -> float:
        """Return the share of the test part that the network, in eval mode meanwhile, classifies rightly."""
        hits = torch.zeros((), dtype=torch.int64, device=self.test.images.device)
        with evaluating(network):
            for start in range(0, len(self.test.images), EVALUATION_BATCH):
                chunk = slice(start, start + EVALUATION_BATCH)
                predicted = network(self.standardise(self.test.images[chunk])).argmax(dim=1)
                hits += (predicted == self.test.labels[chunk]).sum()
        return hits.item() / len(self.test.images)


def load_split(name: str, *, device: torch.device | str, root: str | Path | None = None) -> Split:
    """Load a data set by the names of `osgan.data.load` as 32x32 images; the whole of it has to fit on the device.

    Raises InputError for a data set without labels, and for what cannot be read.
    """
    place = find_root(root)
    source = read(name, root=place, resolution=RESOLUTION, seed=0)
    if source.labels is None:
        raise InputError(f"dataset {name!r} has no labels: a teacher and its accuracy need them")
    if name in TORCHVISION_SETS:
        train, test = (_decode(part, source.channels, device) for part in (source, _test_split(name, place)))
        held_out = f"{name}'s own test split"
    else:
        everything = _decode(source, source.channels, device)
        order = torch.randperm(len(everything.labels), generator=torch.Generator().manual_seed(0)).to(device)
        num_test = round(HELD_OUT * len(order))
        if not num_test:
            raise InputError(f"dataset {name!r} has {len(order)} images: too few to hold a fifth out")
        train, test = (
            LabelledImages(images=everything.images[rows], labels=everything.labels[rows])
            for rows in (order[:-num_test], order[-num_test:])
        )
        held_out = f"{num_test} of {len(order)} images, the last of a fixed permutation"
    pixels = train.images.transpose(0, 1).flatten(1)
    std, mean = torch.std_mean(pixels.float() / 255, dim=1)
    return Split(
        name=name,
        train=train,
        test=test,
        num_classes=int(source.labels.max()) + 1,
        mean=mean.view(-1, 1, 1),
        std=std.clamp_min(1e-3).view(-1, 1, 1),  # a channel that never changes
        held_out=held_out,
    )


def _decode(source: Source, channels: int, device: torch.device | str) -> LabelledImages:
    decoded = DecodedImages(source, resolution=RESOLUTION, channels=channels)
    images, labels = decoded[range(len(decoded))]
    assert labels is not None
    return LabelledImages(images=images.to(device), labels=labels.to(device))


def _test_split(name: str, root: Root) -> Source:
    dataset_class, _ = TORCHVISION_SETS[name]
    try:
        dataset = dataset_class(root.path, train=False, download=root.is_default)
    except Exception as error:  # torchvision has a type for each kind of damage
        raise InputError(
            f"dataset {name!r}: its test split cannot be read from {root.path} ({error}); put the files that "
            f"torchvision.datasets.{dataset_class.__name__} writes beside those of its train split"
        ) from error
    pixels = torch.as_tensor(dataset.data)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return in_memory(images, torch.as_tensor(dataset.targets))
