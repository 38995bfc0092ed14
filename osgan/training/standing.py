"""Standing statistics: BatchNorm's of a G whose weights are an average, measured anew on images that it makes.

A moving average of weights never trained with the running statistics that it is given, those of the last few batches
of the G that moves; they add noise to what is judged. Measured anew they are its own (Brock et al. 2019, BigGAN,
section 4.1; stochastic weight averaging does the same).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from osgan.modes import evaluating


@contextmanager
def standing_statistics(generator: nn.Module, make: Callable[[], object]) -> Iterator[None]:
    """Let a generator's BatchNorm layers have the statistics of what `make` makes, for as long as the context lasts.

    `make` calls the generator, once or more; the statistics are the mean over its calls. Layers without running
    statistics stay as they are.
    """
    layers = [m for m in generator.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    buffers = [buffer for layer in layers for buffer in layer.buffers()]
    before = [buffer.clone() for buffer in buffers]
    momenta = [layer.momentum for layer in layers]
    with evaluating(generator):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all calls
            layer.train()
        try:
            with torch.no_grad():
                if layers:
                    make()
            for layer in layers:
                layer.eval()
            yield
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
                layer.eval()
            with torch.no_grad():
                for buffer, value in zip(buffers, before, strict=True):
                    buffer.copy_(value)
