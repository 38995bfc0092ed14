"""What the machine cannot do is skipped, and what takes minutes is run only when it is asked for."""

import pytest
import torch

torch.set_num_threads(1)  # networks this small only wait for each other's threads


def pytest_collection_modifyitems(config, items):
    no_gpu = pytest.mark.skip(reason="needs an NVIDIA GPU")
    too_slow = pytest.mark.skip(reason="takes minutes; run with -m slow")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if "slow" in item.keywords and "slow" not in config.option.markexpr:
            item.add_marker(too_slow)
