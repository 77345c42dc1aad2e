"""Observing the geometry of a model while it trains, and confining its updates to a channel."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geomcheck.live.loop.alerts import Alert as Alert
    from geomcheck.live.loop.callback import GeometryCallback as GeometryCallback
    from geomcheck.live.loop.live_weights import Sharded as Sharded
    from geomcheck.live.loop.monitor import Monitor as Monitor
    from geomcheck.live.loop.monitor import Observation as Observation
    from geomcheck.projection.callback import ConstrainUpdates as ConstrainUpdates
    from geomcheck.projection.channel import Channel as Channel
    from geomcheck.projection.projection import Projection as Projection
    from geomcheck.projection.projection import constrain_updates as constrain_updates
    from geomcheck.projection.projection import resume_constraint as resume_constraint

_HOMES = {
    "Alert": "geomcheck.live.loop.alerts",
    "Channel": "geomcheck.projection.channel",
    "ConstrainUpdates": "geomcheck.projection.callback",
    "GeometryCallback": "geomcheck.live.loop.callback",
    "Monitor": "geomcheck.live.loop.monitor",
    "Observation": "geomcheck.live.loop.monitor",
    "Projection": "geomcheck.projection.projection",
    "Sharded": "geomcheck.live.loop.live_weights",
    "constrain_updates": "geomcheck.projection.projection",
    "resume_constraint": "geomcheck.projection.projection",
}


__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geomcheck.training' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(_HOMES)
