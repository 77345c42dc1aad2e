"""All kinds of findings: ours in the order of the questions, then those that installed packages add."""

from __future__ import annotations

from functools import cache

from geomcheck._plugins import with_declared
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
    kinds = with_declared(OURS, ENTRY_POINT_GROUP, Kind, "geomcheck.diagnosis.Kind", a="finding")
    return tuple(sorted(kinds.values(), key=lambda kind: kind.group))
