"""What a gate would read of a run, and what it would cost: from headers alone."""

from geomcheck.inspection.inspect import CORE_GFLOPS, Group, Held, Inspection, inspect

__all__ = ["CORE_GFLOPS", "Group", "Held", "Inspection", "inspect"]
