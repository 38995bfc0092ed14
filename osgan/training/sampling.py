"""Images of a generator: of networks at hand, or of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from osgan import nets
from osgan.errors import InputError
from osgan.modes import evaluating
from osgan.training import checkpoint
from osgan.training.checkpoint import Checkpoint
from osgan.training.recipe import Recipe


@dataclass(frozen=True)
class LoadedGenerator:
    """G of a checkpoint, ready to make images."""

    networks: nets.Networks
    recipe: Recipe
    step: int


def load_generator(path: Path, device: torch.device | str = "cpu", *, average: bool = True) -> LoadedGenerator:
    """Build G of a checkpoint, or of the newest in a run's folder, its moving average where there is one.

    Raises InputError if it cannot be read.
    """
    saved = checkpoint.load_from(path)
    recipe = recipe_of(saved)
    networks = nets.build(recipe.architecture, channels=saved.facts["channels"], num_classes=saved.facts["num_classes"])
    prefix = "average." if average and any(key.startswith("average.") for key in saved.weights) else "generator."
    weights = {key.removeprefix(prefix): value for key, value in saved.weights.items() if key.startswith(prefix)}
    copy_tensors(networks.generator.state_dict(), weights)
    networks.generator.to(device)
    return LoadedGenerator(networks, recipe, saved.facts["step"])


def sample(
    networks: nets.Networks,
    n: int,
    *,
    seed: int,
    device: torch.device | str,
    label: int | None = None,
    first: int = 0,
) -> Tensor:
    """Return n images of G in evaluation mode (n, C, H, W), from latents that depend on the seed alone.

    Of conditional networks the labels go round the classes, at `first` images from their beginning, or are all `label`.
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        latents = networks.latent(n, device)
    labels = labels_for(networks, n, label=label, first=first)
    return images_of(networks, latents, None if labels is None else labels.to(device))


def labels_for(networks: nets.Networks, n: int, *, label: int | None = None, first: int = 0) -> Tensor | None:
    """Return the labels of images `first` to `first` + n; raises InputError for a label that the networks have not."""
    if label is None:
        return (first + torch.arange(n)) % networks.num_classes if networks.num_classes else None
    if not networks.num_classes:
        raise InputError(f"class {label}: the networks were trained without labels; leave out --class")
    if not 0 <= label < networks.num_classes:
        raise InputError(f"class {label}: there are {networks.num_classes}, from 0 to {networks.num_classes - 1}")
    return torch.full((n,), label)


@torch.no_grad()
def images_of(networks: nets.Networks, latents: Tensor, labels: Tensor | None) -> Tensor:
    """Return G's images in evaluation mode, float32 (n, C, H, W)."""
    with evaluating(networks.generator):
        images: Tensor = networks.generator(latents, *(() if labels is None else (labels,)))
    return images.float()


def recipe_of(saved: Checkpoint) -> Recipe:
    """Return the recipe of a checkpoint; raises InputError if it is none."""
    try:
        return Recipe.from_dict(saved.facts["recipe"])
    except TypeError as error:
        raise InputError(f"the checkpoint's recipe is damaged: {error}") from None


@torch.no_grad()
def copy_tensors(mine: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    """Copy tensors by name into those that are there; raises InputError where names or shapes differ."""
    if differing := sorted(mine.keys() ^ given.keys()):
        raise InputError(f"the checkpoint is of another architecture: {', '.join(differing[:5])} are not in both")
    for key, tensor in mine.items():
        if tensor.shape != given[key].shape:
            raise InputError(
                f"the checkpoint is of another architecture: {key} has shape {tuple(given[key].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
        if tensor.dtype != given[key].dtype:
            raise InputError(f"the checkpoint is damaged: {key} is {given[key].dtype}, expected {tensor.dtype}")
    for key, tensor in mine.items():
        tensor.copy_(given[key])
