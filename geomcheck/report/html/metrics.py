"""What the page asks of metrics: which to measure and draw, and what each says in one plain sentence."""

from __future__ import annotations

from geomcheck.diagnostics import Metric, Words, load_metrics
from geomcheck.record import Record, Request
from geomcheck.suite.conditions import load_conditions

SPECTRUM = "update_spectrum"


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
    """What the metric, or the condition that stands for one, says of itself; else what title and definition give."""
    metric = load_metrics().get(name)
    if metric is not None:
        return metric.plainly
    subject = next((kind for kind in load_conditions().of_subjects if kind.keyword == name), None)
    return subject.words if subject else Words.of(title, definition)
