"""What must be true of networks, optimizers and the batch before a step: errors that say what is wrong, and remarks.

Nothing here moves anything. What is structural about D is measured in `osgan.structure`.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim import Optimizer

from osgan.copies import copy_of
from osgan.errors import InputError, cause_of
from osgan.latent import Latent
from osgan.losses import LOSSES, AdversarialLoss
from osgan.structure import Structure

REMEDY_OF_RANGE = "the library's networks and judges take [-1, 1]: x / 127.5 - 1 for bytes, 2 * x - 1 for [0, 1]"


def check_networks(generator: nn.Module, discriminator: nn.Module) -> None:
    """Raise InputError for what is no network of its own, or has weights that do not exist yet."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, nn.Module):
            raise InputError(
                f"the {name} must be a torch.nn.Module, got {type(network).__name__}: a function's weights cannot be "
                "found; wrap it in a module that holds its layers"
            )
        if isinstance(network, nn.parallel.DistributedDataParallel):
            raise InputError(
                "a scheme takes the networks themselves, not in DistributedDataParallel: pass its .module, and "
                "call osgan.distribute(step) afterwards, which reduces each gradient once an update"
            )
        if isinstance(network, nn.DataParallel):
            raise InputError(
                f"the {name} is in nn.DataParallel, which copies it at every call: pass its .module; for several GPUs "
                "start one process each with torchrun and call osgan.distribute(step)"
            )
        for key, tensor in (*network.named_parameters(), *network.named_buffers()):
            if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
                raise InputError(
                    f"the {name}'s {key!r} belongs to a lazy layer that has no shape yet: call the {name} once on a "
                    "batch, under torch.no_grad(), before its optimizer is made"
                )
    if generator is discriminator:
        raise InputError("the generator and the discriminator are one and the same network")


def check_optimizers(
    generator: nn.Module, discriminator: nn.Module, generator_optimizer: Optimizer, discriminator_optimizer: Optimizer
) -> None:
    """Raise InputError for optimizers that do not move each its own network's weights, all of them and once a step."""
    players = {"generator": generator, "discriminator": discriminator}
    optimizers = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
    for name, optimizer in optimizers.items():
        if not hasattr(optimizer, "param_groups"):
            raise InputError(f"the {name}'s optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise InputError(
                f"the {name}'s optimizer {type(optimizer).__name__} evaluates the loss several times a step, which no "
                "scheme does: use Adam, SGD or another optimizer of one gradient"
            )
    if generator_optimizer is discriminator_optimizer:
        raise InputError("one optimizer for both networks would step twice: make one for each network's own weights")
    names = {player: {id(p): key for key, p in network.named_parameters()} for player, network in players.items()}
    for name, other in (("generator", "discriminator"), ("discriminator", "generator")):
        held = [p for group in optimizers[name].param_groups for p in group["params"]]
        if foreign := [p for p in held if id(p) in names[other] and id(p) not in names[name]]:
            raise InputError(
                f"the {name}'s optimizer holds the {other}'s weight {names[other][id(foreign[0])]!r}: are the two "
                "optimizers swapped? The order is generator, discriminator, generator_optimizer, "
                "discriminator_optimizer"
            )
        if twice := [number for number, count in Counter(map(id, held)).items() if count > 1]:
            weight = names[name].get(twice[0], "a weight")
            raise InputError(f"the {name}'s optimizer holds {weight!r} twice, and would move it twice a step")
        missing = [
            key for key, p in players[name].named_parameters() if p.requires_grad and id(p) not in set(map(id, held))
        ]
        if missing:
            raise InputError(
                f"the {name}'s weight {missing[0]!r} ({len(missing)} in all) wants a gradient and is not in the "
                f"{name}'s optimizer: make the optimizer of this very network's parameters(), or freeze the weight "
                "with requires_grad_(False)"
            )


def _tied_weights(generator: nn.Module, discriminator: nn.Module) -> str | None:
    """Say that the players share a weight; None if they do not."""
    of_generator = {id(p): key for key, p in generator.named_parameters()}
    shared = [(of_generator[id(p)], key) for key, p in discriminator.named_parameters() if id(p) in of_generator]
    if not shared:
        return None
    return (
        f"the generator's {shared[0][0]!r} is the discriminator's {shared[0][1]!r} ({len(shared)} in all): the "
        "gradient of a shared weight is the sum of both players', and every optimizer that holds it moves it; share "
        "nothing unless that is meant"
    )


def check_batch(real: Tensor, labels: tuple[Tensor, ...], network: nn.Module) -> None:
    """Raise InputError for a real batch that no step can take; waits for the device."""
    if not isinstance(real, Tensor):
        raise InputError(f"real must be one tensor of images (N, C, H, W), got {type(real).__name__}")
    if not real.is_floating_point():
        raise InputError(
            f"real images are {real.dtype}: give floating-point images in [-1, 1], x / 127.5 - 1 for bytes"
        )
    if real.ndim < 2 or not real.numel():
        raise InputError(f"real must be a batch (N, ...) with something in it, got the shape {tuple(real.shape)}")
    for given in labels:
        if not isinstance(given, Tensor) or given.ndim == 0 or len(given) != len(real):
            found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise InputError(f"labels must be one tensor with a row for each of the {len(real)} images, got {found}")
    own = next(network.parameters(), None)
    if own is not None and own.device != real.device:
        raise InputError(f"the discriminator is on {own.device}, the real images on {real.device}: bring both together")
    if not torch.isfinite(real).all():
        raise InputError("the real images hold NaN or infinite values: mend the data")


def check_trainable(generator: nn.Module, discriminator: nn.Module) -> None:
    """Raise InputError for a network of which no weight wants a gradient."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not any(p.requires_grad for p in network.parameters()):
            raise InputError(
                f"no weight of the {name} wants a gradient: it is frozen, or has none; call its requires_grad_(True) "
                "before the step (other people's loops leave networks frozen)"
            )


def first_fakes(
    generator: nn.Module, G: Callable[..., Tensor], latent: Latent, real: Tensor, labels: tuple[Tensor, ...]
) -> Tensor:
    """Make a fake for each real image by calling `G`, which is the generator or what stands for it.

    Raises InputError where the latents do not fit the generator, or its images the real ones.
    """
    n = len(real)
    try:
        z = latent(n, real.device)
    except Exception as error:
        raise InputError(f"the latent fails when it is called with ({n}, {real.device}): {cause_of(error)}") from None
    try:
        fake = G(z, *labels)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise InputError(_generator_failed(generator, z, labels, error)) from None
    if not isinstance(fake, Tensor):
        raise InputError(
            f"the generator must return one tensor of images, but returned {type(fake).__name__}; wrap it so that it "
            "returns the images alone"
        )
    if fake.shape != real.shape:
        raise InputError(
            f"the generator makes images of shape {tuple(fake.shape[1:])} ({tuple(fake.shape)} for {n} latents), the "
            f"real ones have {tuple(real.shape[1:])}: bring both to one resolution and number of channels"
        )
    if torch.is_grad_enabled() and not fake.requires_grad:
        raise InputError("the generator's images carry no gradient: is its forward pass under torch.no_grad()?")
    return fake


def _generator_failed(network: nn.Module, z: Tensor, labels: tuple[Tensor, ...], error: Exception) -> str:
    called = f"latents {tuple(z.shape)} of {z.dtype}" + "".join(f" and labels {tuple(y.shape)}" for y in labels)
    message = f"the generator fails on {called}: {cause_of(error)}"
    network = copy_of(network, "generator")
    own = next((p for p in network.parameters() if p.is_floating_point()), z)
    if own.device != z.device:
        return f"{message}; its weights are on {own.device}, the latents on {z.device}"
    if own.dtype != z.dtype:
        return f"{message}; its weights are {own.dtype}: latent=osgan.Gaussian(..., dtype={own.dtype})"
    if z.ndim == 2 and _takes(network, z[:, :, None, None], labels):
        shape = (z.shape[1], 1, 1)
        return f"{message}; it wants 4 dimensions: latent=osgan.Gaussian({shape})"
    if z.ndim == 4 and _takes(network, z.flatten(1), labels):
        return f"{message}; it wants 2 dimensions: latent=osgan.Gaussian({z[0].numel()})"
    return f"{message}; it is called as G(z, *labels) with what `latent` gives"


def _takes(network: nn.Module, z: Tensor, labels: tuple[Tensor, ...]) -> bool:
    try:
        with torch.no_grad():
            network(z, *labels)
    except Exception:
        return False
    return True


def remarks(
    generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss, structure: Structure
) -> Iterator[str]:
    """Say what works and is probably not meant: a squashed D, networks in evaluation mode, shared weights."""
    if structure.squashed and takes_logits(loss):
        yield (
            f"every output of the discriminator lies in [0, 1], as after a sigmoid, but the loss {loss.name!r} takes "
            "raw logits: remove the sigmoid"
        )
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not network.training:
            yield (
                f"the {name} is trained in evaluation mode: BatchNorm then uses its running statistics and dropout "
                f"does nothing; call {name}.train() if that is not meant"
            )
    if tied := _tied_weights(generator, discriminator):
        yield tied


def remark_on_range(whose: str, images: Tensor, *, bounded: bool) -> str | None:
    """Say that images (N, C, H, W) are never below 0 or, `bounded`, not in [-1, 1]; waits for the device."""
    if images.ndim != 4:
        return None
    low, high = images.min().item(), images.max().item()
    if bounded and (low < -1.05 or high > 1.05):
        return f"the {whose} images reach from {low:.3g} to {high:.3g}; {REMEDY_OF_RANGE}"
    if low >= 0:
        return f"the {whose} images are never below 0 (from {low:.3g} to {high:.3g}); {REMEDY_OF_RANGE}"
    return None


def takes_logits(loss: AdversarialLoss) -> bool:
    """Whether a loss is defined for any number, and not for probabilities alone; tried on a CPU."""
    if LOSSES.get(loss.name) is loss:
        return True
    real = torch.tensor([-3.0, 3.0, -3.0, 3.0], dtype=torch.float64)
    fake = torch.tensor([-3.0, -3.0, 3.0, 3.0], dtype=torch.float64)
    try:
        gradients = loss.gradients(real, fake)
        means = loss.means(real, fake)
    except Exception:  # cross entropy of probabilities refuses; weights may lie on a GPU
        return False
    return all(bool(tensor.isfinite().all()) for tensor in (*gradients, *means))
