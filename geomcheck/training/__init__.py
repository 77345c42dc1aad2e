"""Watching the geometry of a model while it trains, and confining its updates to a channel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomcheck.training.callback import GeometryCallback
    from geomcheck.training.constrained import ConstrainUpdates
    from geomcheck.training.live import Sharded
    from geomcheck.training.monitor import Monitor
    from geomcheck.training.observation import Observation
    from geomcheck.training.projection import Projection, constrain_updates, resume_constraint

_HOMES = {
    "ConstrainUpdates": "geomcheck.training.constrained",
    "GeometryCallback": "geomcheck.training.callback",
    "Monitor": "geomcheck.training.monitor",
    "Observation": "geomcheck.training.observation",
    "Projection": "geomcheck.training.projection",
    "Sharded": "geomcheck.training.live",
    "constrain_updates": "geomcheck.training.projection",
    "resume_constraint": "geomcheck.training.projection",
}

__all__ = [
    "ConstrainUpdates",
    "GeometryCallback",
    "Monitor",
    "Observation",
    "Projection",
    "Sharded",
    "constrain_updates",
    "resume_constraint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geomcheck.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
