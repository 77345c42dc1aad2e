"""The diagnostics of the papers: pure functions of tensors, and the declaration of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geomcheck.diagnostics.declaration import FOLDS, Fold, Metric, Parameter, Registry, RunView, Unit, resolve_rank
from geomcheck.diagnostics.reading import OPD_PAPER, Follows, Level, Published, Words
from geomcheck.diagnostics.registry import load_metrics

if TYPE_CHECKING:
    from geomcheck.diagnostics.update import Base, Update

__all__ = [
    "FOLDS",
    "OPD_PAPER",
    "Base",
    "Fold",
    "Follows",
    "Level",
    "Metric",
    "Parameter",
    "Published",
    "Registry",
    "RunView",
    "Unit",
    "Update",
    "Words",
    "load_metrics",
    "resolve_rank",
]


def __getattr__(name: str) -> Any:
    if name in ("Base", "Update"):  # declarations are read without torch, which these need
        from geomcheck.diagnostics import update

        return getattr(update, name)
    raise AttributeError(f"module 'geomcheck.diagnostics' has no attribute {name!r}")
