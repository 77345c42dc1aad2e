"""Published figures of the three training regimes, to stand beside a run's own."""

from __future__ import annotations

from dataclasses import dataclass

from geomcheck.report.charts.numbers import Form
from geomcheck.suite.conditions.profile import EVIDENCE, PAPER

SOURCE = "arXiv 2606.07082, Qwen3-8B on mathematics"


@dataclass(frozen=True)
class Published:
    """What the paper reports of one regime: an interval (a level where both ends agree), and how it words it."""

    regime: str
    low: float
    high: float
    words: str

    @property
    def style(self) -> str:
        """CSS classes: a level is a line, an interval a fainter band."""
        return f"{self.regime} level" if self.low == self.high else self.regime


_WORDS = {
    ("principal_angle", "sft"): "above 10°",
    ("principal_angle", "opd"): "about 1°",
    ("principal_angle", "rlvr"): "below 0.5°",
    ("spectral_shift", "sft"): "10⁻³ level",
    ("spectral_shift", "opd"): "10⁻⁴ level",
    ("spectral_shift", "rlvr"): "10⁻⁵ level",
}

PUBLISHED = {
    evidence.metric: tuple(
        Published(p.name, figure, figure, _WORDS.get((evidence.metric, p.name), Form(percent=True).show(figure)))
        for p in PAPER
        for figure in (p.centres[evidence.metric],)
    )
    for evidence in EVIDENCE
} | {
    "stable_rank": (
        Published("sft", 20, 75, "grows from about 20 to 75"),
        Published("opd", 20, 30, "flat, about 20 to 30"),
    ),
}

QUALITATIVE = {
    "stable_rank": "RLVR contracts (no figures given).",
    "relative_update_norm": "SFT moves most, OPD well above RLVR, RLVR least (no figures given).",
    "update_norm": "SFT moves most, OPD well above RLVR, RLVR least (no figures given).",
    "subspace_alignment": "OPD is high from the first checkpoint on, SFT and RLVR rise gradually (no figures given).",
    "hill_exponent": "The paper draws this figure without stating its k: no reference values.",
}


def cited(metric: str) -> str:
    """The published figures of `metric` as a sentence with its source; empty where there are none."""
    figures = [f"{p.regime.upper()} {p.words}" for p in PUBLISHED.get(metric, ())]
    parts = [f"{'; '.join(figures)}." if figures else "", QUALITATIVE.get(metric, "")]
    words = " ".join(part for part in parts if part)
    return f"Published ({SOURCE}): {words}" if words else ""
