"""All kinds of findings: ours in the order of the questions, then those that installed packages add."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from geomcheck.diagnosis import (
    blocks,
    damaged,
    direction,
    identical,
    noise,
    order,
    precision,
    resembles,
    scaled,
    shifted,
    size,
    start,
    tied,
    trainer,
    unmovable,
)
from geomcheck.diagnosis.kind import Kind
from geomcheck.errors import UsageError

ENTRY_POINT_GROUP = "geomcheck.findings"

OURS = (
    identical.NEVER,
    identical.BACK,
    identical.LATE,
    identical.TWINS,
    *damaged.KINDS.values(),
    tied.TIED,
    shifted.SHIFTED,
    *scaled.KINDS,
    *resembles.KINDS,
    identical.STALE,  # what was reset stands still too
    identical.COPY,
    *precision.KINDS,
    *blocks.KINDS,
    *order.KINDS,
    start.START,
    direction.SIGN,
    direction.EXCHANGED,
    direction.PULL,
    noise.NOISE,
    direction.OBJECTIVE,
    *size.KINDS,
    noise.MOMENTUM,
    *trainer.KINDS,
    unmovable.PRECISION,
)


@cache
def load_kinds() -> tuple[Kind, ...]:
    """The kinds of findings, group by group.

    Raises:
        UsageError: an entry point of group ``geomcheck.findings`` is not a Kind, or takes a name in use.
    """
    kinds = {kind.name: kind for kind in OURS}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        kind = entry.load()
        if not isinstance(kind, Kind):
            raise UsageError(f"entry point {entry.name!r} ({entry.value}) is not a geomcheck.diagnosis.Kind")
        if kind.name in kinds:
            raise UsageError(f"entry point {entry.name!r} ({entry.value}): finding {kind.name!r} is declared twice")
        kinds[kind.name] = kind
    return tuple(sorted(kinds.values(), key=lambda kind: kind.group))
