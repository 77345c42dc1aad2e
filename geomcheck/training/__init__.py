"""Watching the geometry of a model while it trains, from any loop or through a transformers callback."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomcheck.training.callback import GeometryCallback
    from geomcheck.training.live import Sharded
    from geomcheck.training.monitor import Monitor
    from geomcheck.training.observation import Observation

_HOMES = {
    "GeometryCallback": "geomcheck.training.callback",
    "Monitor": "geomcheck.training.monitor",
    "Observation": "geomcheck.training.observation",
    "Sharded": "geomcheck.training.live",
}

__all__ = ["GeometryCallback", "Monitor", "Observation", "Sharded"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geomcheck.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
