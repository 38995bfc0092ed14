"""A scheme over several processes: its gradients are averaged by PyTorch's DistributedDataParallel."""

import inspect
import warnings
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from osgan.errors import InputError
from osgan.parallel.processes import size
from osgan.step import Scheme

# `broadcast_buffers` has been deprecated since PyTorch 2.13, which has another name for what is meant here.
BROADCAST_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


def distribute(scheme: Scheme, **options: Any) -> None:
    """Let every step of the scheme average its gradients over the processes, G's and D's once for each update.

    Call it after `torch.distributed.init_process_group` and before the first step, with the networks on their devices;
    `osgan.Loop` and the trainer do so themselves. The weights of process 0 become those of all. Every process then
    gives the step its own part of the batch: of equal size, since the mean is over processes. `options` are
    DistributedDataParallel's (`bucket_cap_mb`, `find_unused_parameters`). Does nothing with one process, or twice.
    """
    if size() == 1:
        return
    # It comes from strides of dimensions of size 1, as D's last convolution has, and means nothing there.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    scheme.G = _reduced(scheme.G, scheme.generator, options)
    scheme.D = _reduced(scheme.D, scheme.discriminator, options)


def _reduced(forward: Any, network: nn.Module, options: dict[str, Any]) -> Any:
    if isinstance(forward, DistributedDataParallel):
        return forward
    trainable = next((p for p in network.parameters() if p.requires_grad), None)
    if trainable is None:
        raise InputError(f"{type(network).__name__} has no weight that wants a gradient: there is nothing to reduce")
    device_ids = [trainable.device] if trainable.is_cuda else None
    # Buffers stay each process's own: copied before every forward pass they are changed between two forward passes and
    # the backward pass of both, which PyTorch has refused (pytorch#22095). Gradients that are views of the buckets are
    # not copied out of them.
    chosen = {"device_ids": device_ids, BROADCAST_BUFFERS: False, "gradient_as_bucket_view": True}
    return DistributedDataParallel(forward, **chosen | options)


def synchronise_batch_norm(*networks: nn.Module) -> None:
    """Let every BatchNorm layer see the whole batch, in place; raises InputError on a CPU, where torch has none.

    Does nothing with one process, which sees it anyway.
    """
    if size() == 1:
        return
    for network in networks:
        if next(network.parameters()).device.type == "cpu":
            raise InputError(
                "sync_batch_norm (--sync-batch-norm): PyTorch's SyncBatchNorm has no implementation for CPUs; use "
                "GPUs, one process, or networks without BatchNorm"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
