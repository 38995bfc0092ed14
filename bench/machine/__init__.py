"""What it runs on: the facts of the machine, what NVIDIA's library tells of the GPU, what else went on meanwhile."""

from bench.machine.facts import describe

__all__ = ["describe"]
