"""What is asked: YAML files become frozen cases and plans, validated as a whole before anything runs."""

from bench.suite.files import SUITES, find, load, select, validate
from bench.suite.model import Suite

__all__ = ["SUITES", "Suite", "find", "load", "select", "validate"]
