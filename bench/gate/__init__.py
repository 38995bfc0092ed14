"""The gate: a run of suites/regress.yaml against the baseline of this kind of device, and its past as a page.

Speedups are ratios and are compared across machines, loosely and both ways; work is counted, and compared exactly
within one version of PyTorch. docs/gate.md has the rules.
"""

from bench.gate.baseline import Baseline, baseline_of, kind, load
from bench.gate.judge import STATUSES, Row, Status, confirm, judge, status_of
from bench.gate.page import write_history
from bench.gate.show import Output

__all__ = [
    "STATUSES",
    "Baseline",
    "Output",
    "Row",
    "Status",
    "baseline_of",
    "confirm",
    "judge",
    "kind",
    "load",
    "status_of",
    "write_history",
]
