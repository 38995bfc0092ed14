"""Micro-benchmarks of the parts of a step, with pytest-benchmark: `make microbench`, see docs/gate.md."""
