"""Watching the geometry of a model while it trains, and confining its updates to a channel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomcheck.live.loop.callback import GeometryCallback
    from geomcheck.live.loop.model import Sharded
    from geomcheck.live.loop.monitor import Monitor
    from geomcheck.live.loop.observation import Observation
    from geomcheck.projection.constrained import ConstrainUpdates
    from geomcheck.projection.projection import Projection, constrain_updates, resume_constraint

_HOMES = {
    "ConstrainUpdates": "geomcheck.projection.constrained",
    "GeometryCallback": "geomcheck.live.loop.callback",
    "Monitor": "geomcheck.live.loop.monitor",
    "Observation": "geomcheck.live.loop.observation",
    "Projection": "geomcheck.projection.projection",
    "Sharded": "geomcheck.live.loop.model",
    "constrain_updates": "geomcheck.projection.projection",
    "resume_constraint": "geomcheck.projection.projection",
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
