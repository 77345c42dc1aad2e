"""Inspect a run from headers alone: what a gate would read, and what it would cost."""

from geomcheck.inspection.inspect import CORE_GFLOPS, Held, Inspection, WeightGroup, inspect

__all__ = ["CORE_GFLOPS", "Held", "Inspection", "WeightGroup", "inspect"]
