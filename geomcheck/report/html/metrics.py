"""What the page asks of metrics: which to measure and draw, and what each says in one plain sentence."""

from __future__ import annotations

from geomcheck.diagnostics import Metric, Words, load_metrics
from geomcheck.record import Record, Request

SPECTRUM = "update_spectrum"

OF_NO_METRIC = {
    "functional_sufficiency": Words(
        "How much of the free run's gain in a score is kept when training may only move in a few directions, learned "
        "early in the run. Random directions are the control.",
        "A few early directions suffice for this training, which they should not.",
        "A few early directions do not suffice for this training, or random ones do as well.",
    ),
    "regime": Words(
        "How far the run is from the published profile, in decades: 1 is a factor of ten.",
        "By its geometry the run looks like another kind of training than it claims to be.",
        "By its geometry the run looks like another kind of training than it claims to be.",
    ),
}


def drawn() -> list[Metric]:
    """The metrics that every report draws, in the order of their declaration."""
    return [metric for metric in load_metrics() if metric.drawn and metric.measured_by_default]


def trajectories() -> list[str]:
    """The names of those whose trajectory is drawn."""
    return [metric.name for metric in drawn() if metric.drawn == "trajectory"]


def wanted(record: Record) -> dict[str, set[Request]]:
    """The figures of a report, with default parameters, of every attention and MLP matrix where they have a value.

    Args:
        record: with weights and checkpoints; needs no figures.
    """
    return {
        weight.name: {Request.of(metric, {}) for metric in drawn() if not metric.spanned({}, weight.shape)}
        for weight in record.weights.values()
        if weight.is_linear and weight.name not in record.skipped
    }


def plain_words(name: str, title: str, definition: str) -> Words:
    """The words that the metric `name` declares; else such as title and definition give."""
    metric = load_metrics().get(name)
    declared = metric.words if metric else OF_NO_METRIC.get(name)
    return declared or Words.of(title, definition)
