"""How wide calibrated bands are."""

from __future__ import annotations

from geomcheck.calibration import Repeatability

RUNS = (3, 4, 5, 7, 10)
BANDS = (1, 12, 60)


def factor_table() -> str:
    """The multiple of the standard deviation by number of runs and number of bands, with the default rate."""
    rule = Repeatability()
    rows = [f"| {n} | " + " | ".join(f"{rule.factor(n, bands):.1f}" for bands in BANDS) + " |" for n in RUNS]
    head = "| good runs | " + " | ".join(f"{bands} band{'s' * (bands > 1)}" for bands in BANDS) + " |"
    return "\n".join([head, "|---" * (len(BANDS) + 1) + "|", *rows])
