import pytest
import torch

torch.set_num_threads(1)  # networks this small only wait for each other's threads


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
