"""What is judged, in one plain sentence each, for readers who have not seen the papers."""

from __future__ import annotations

from geomcheck.diagnostics import Words, load_metrics

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


def plain_words(name: str, title: str, definition: str) -> Words:
    """The words that the metric `name` declares; else such as title and definition give."""
    metric = load_metrics().get(name)
    declared = metric.words if metric else OF_NO_METRIC.get(name)
    return declared or Words.of(title, definition)
