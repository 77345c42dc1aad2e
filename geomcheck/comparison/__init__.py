"""Two runs side by side: every figure at matching progress, the layers that moved, what their updates share."""

from geomcheck.comparison.comparison import compare
from geomcheck.comparison.contrast import Comparison, LayerPair, MetricPairs, Pair, Shared

__all__ = ["Comparison", "LayerPair", "MetricPairs", "Pair", "Shared", "compare"]
