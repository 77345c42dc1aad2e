"""All metrics: ours in the order of the paper, then those that installed packages add."""

from __future__ import annotations

from functools import cache

from geomcheck._plugins import declared
from geomcheck.diagnostics import (
    drift,
    intruders,
    lines,
    localization,
    locking,
    precision,
    rank,
    rotation,
    support,
    trajectory,
)
from geomcheck.diagnostics.declaration import Metric, Registry
from geomcheck.errors import UsageError

ENTRY_POINT_GROUP = "geomcheck.metrics"

OURS = (
    support.UPDATE_SPARSITY,
    support.UPDATE_SUPPORT,
    rotation.PRINCIPAL_ANGLE,
    drift.SPECTRAL_SHIFT,
    localization.PRINCIPAL_OVERLAP,
    localization.LOW_MAGNITUDE_OVERLAP,
    rank.STABLE_RANK,
    rank.UPDATE_NORM,
    rank.RELATIVE_UPDATE_NORM,
    rank.HILL_EXPONENT,
    locking.SUBSPACE_ALIGNMENT,
    locking.SUBSPACE_ENERGY,
    rotation.PRINCIPAL_ENERGY,
    rank.TOP_ENERGY,
    drift.SPECTRAL_SHARE,
    support.MASK_JACCARD,
    locking.REFERENCE_ALIGNMENT,
    support.FROZEN_SHARE,
    trajectory.UPDATE_COSINE,
    trajectory.INCREMENT_NORM,
    trajectory.INCREMENT_COSINE,
    trajectory.PATH_EFFICIENCY,
    trajectory.TRAJECTORY_RANK,
    trajectory.LINEARITY,
    trajectory.DECAY_SHARE,
    rank.ROUNDING_SHARE,
    rank.UPDATE_SPECTRUM,
    rank.EFFECTIVE_RANK,
    rank.STABLE_RANK_CEILING,
    intruders.INTRUDER_DIMENSIONS,
    lines.ROW_CONCENTRATION,
    lines.FROZEN_ROWS,
    support.SIGN_FLIPS,
    precision.FROZEN_BY_PRECISION,
    precision.REPRESENTABLE_SHARE,
)


@cache
def load_metrics() -> Registry:
    """The metrics that suites may name.

    Raises:
        UsageError: an entry point of group ``geomcheck.metrics`` is not a Metric, or takes a name in use.
    """
    registry = Registry()
    for metric in OURS:
        registry.add(metric)
    for where, metric in declared(ENTRY_POINT_GROUP, Metric, "geomcheck.diagnostics.Metric"):
        try:
            registry.add(metric)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
    return registry
