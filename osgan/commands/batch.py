"""Networks and a first batch of real images, as `osgan verify` and `osgan predict` look at them."""

from pathlib import Path

import torch

from osgan import data, nets


def networks_and_batch(
    architecture: str, dataset: str, root: Path | None, batch_size: int, device: torch.device
) -> tuple[nets.Networks, data.Dataset, torch.Tensor, torch.Tensor | None]:
    """Load the data set and build the networks for it, on the device; also returns a batch (N, C, H, W) and labels.

    Labels (N,) are None for networks that take none. Seeds PyTorch with 0.
    """
    torch.manual_seed(0)
    source = data.load(dataset, resolution=nets.resolution_of(architecture), device=device, root=root)
    networks = nets.build(architecture, channels=source.image_shape[0], num_classes=source.num_classes)
    networks.generator.to(device)
    networks.discriminator.to(device)
    real, labels = next(source.batches(batch_size, seed=0))
    return networks, source, real, labels if networks.num_classes is not None else None
