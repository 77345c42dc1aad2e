"""The diagnostics of the papers: pure functions of tensors, and the declaration of each."""

from geomcheck.diagnostics.declaration import (
    FOLDS,
    Fold,
    Metric,
    Parameter,
    Registry,
    RunView,
    Unit,
    resolve_rank,
)
from geomcheck.diagnostics.registry import load_metrics
from geomcheck.diagnostics.update import Base, Update

__all__ = [
    "FOLDS",
    "Base",
    "Fold",
    "Metric",
    "Parameter",
    "Registry",
    "RunView",
    "Unit",
    "Update",
    "load_metrics",
    "resolve_rank",
]
