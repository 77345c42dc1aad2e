"""What a report asks to be measured beside the expectations: its trajectories, regimes and spectra."""

from __future__ import annotations

from geomcheck.diagnostics import load_metrics
from geomcheck.record import Record, Request

TRAJECTORIES = (
    "update_support",
    "principal_angle",
    "stable_rank",
    "relative_update_norm",
    "subspace_alignment",
    "hill_exponent",
    "spectral_shift",
)
"""The metrics whose trajectories every report draws, in this order."""

SPECTRUM = "update_spectrum"
MEASURED = (*TRAJECTORIES, SPECTRUM)


def wanted(record: Record) -> dict[str, set[Request]]:
    """The figures of a report, with default parameters, of every attention and MLP matrix where they have a value.

    Args:
        record: with weights and checkpoints; needs no figures.
    """
    metrics = [load_metrics()[name] for name in MEASURED]
    return {
        weight.name: {Request.of(metric, {}) for metric in metrics if not metric.spanned({}, weight.shape)}
        for weight in record.weights.values()
        if weight.is_linear and weight.name not in record.skipped
    }
