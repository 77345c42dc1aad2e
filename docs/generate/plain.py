"""What a metric says in plain words, and when not to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geomcheck.diagnostics import Metric


@dataclass(frozen=True)
class Words:
    """A metric for readers who have not seen the papers.

    Attributes:
        shows: what the figure is.
        high, low: what a figure too high or too low means.
        doubt: when not to trust it; empty where nothing is known.
    """

    shows: str
    high: str
    low: str
    doubt: str


def words(metric: Metric) -> Words:
    """The words for `metric`: its declaration's, where that has them."""
    said = getattr(metric, "words", None) or _made(metric)
    return Words(said.shows, said.high, said.low, getattr(metric, "distrust", _DOUBTS.get(metric.name, "")))


def _made(metric: Metric) -> Any:
    from geomcheck.report.html.metrics import plain_words

    return plain_words(metric.name, metric.title, metric.definition)


_STEPS = "It grows with the number of steps and with the learning rate. Compare at matching steps only."
_ROUNDING = (
    "Rounding raises it where weights are stored in bf16 and the update is small: rounding has full rank (a true "
    "stable rank of 6.7 read 23.3 at 11% support). geomcheck warns; prefer checkpoints in fp32."
)
_CHANNEL_ROUNDING = "bf16 checkpoints of small updates: part of what is measured is rounding. Prefer fp32."
_OVERLAP = (
    "It follows density: an update without any structure reproduces the paper's low overlaps at the paper's densities. "
    "Use `excess_over: shuffled`, which subtracts what chance gives."
)
_SUPPORT = (
    "It is mostly step size times steps, and depends on the definition: an absolute threshold of 1e-5 in place of "
    "the bf16 value moved the same pair of models from 54% to 78%."
)

_DOUBTS = {
    "update_sparsity": _SUPPORT,
    "update_support": _SUPPORT,
    "principal_angle": "`stat: max` is set by accidental gaps of the spectrum: 11.5 degrees for noise whose mean "
    "angle is 0.36 degrees. Prefer the median. It grows with the number of steps.",
    "spectral_shift": "It is at most `relative_update_norm`, so a small update cannot have a large one.",
    "stable_rank": _ROUNDING,
    "update_norm": _STEPS,
    "relative_update_norm": _STEPS,
    "hill_exponent": "It depends on `k`, which the paper does not state (here 16).",
    "subspace_alignment": "It rises to 100% by construction, so only early checkpoints say something. Chance is "
    "K / in. " + _CHANNEL_ROUNDING,
    "subspace_energy": _CHANNEL_ROUNDING,
    "principal_overlap": _OVERLAP,
    "low_magnitude_overlap": _OVERLAP,
    "principal_energy": "Compare with chance, `k^2 / (out in)`.",
    "top_energy": "It depends on `k` and on the shape of the matrix.",
    "spectral_share": "It is a share of a change that may be tiny: read `spectral_shift` beside it.",
    "mask_jaccard": "Compare with chance, `pq / (p + q - pq)` for supports p and q.",
    "reference_alignment": "Compare with chance, K / in.",
    "update_spectrum": "It is drawn by reports. As a gate, `stable_rank` and `top_energy` say the same in one figure.",
    "rounding_share": "It assumes that training was in higher precision than the stored weights.",
}
