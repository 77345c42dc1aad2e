"""The profile of a regime, from good runs of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Unpack

from geomcheck.api import How, RunOrRecord, records_of
from geomcheck.calibration.calibration import comment, factor, plain, provenance, suffix
from geomcheck.calibration.rules import Student
from geomcheck.calibration.runs import require_comparable, told
from geomcheck.calibration.statistics import Spread
from geomcheck.checkpoints import BaseWeights
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import UsageError
from geomcheck.files import replacing
from geomcheck.record import Record
from geomcheck.suite.conditions.profile import EVIDENCE, Profile
from geomcheck.suite.conditions.regime import evidence_figures
from geomcheck.suite.language.places import LAST, At
from geomcheck.suite.language.selection import DEFAULT, Selection

OUTSIDE = 0.01
"""Share of fresh runs of a regime that may lie beyond the reach of its profile."""


@dataclass(frozen=True)
class CalibratedProfile:
    """A profile, with the runs that it comes from and their spread per diagnostic, in decades.

    `base` is the content of their W0, empty where they started from different weights.
    """

    profile: Profile
    runs: tuple[str, ...]
    base: str
    spreads: dict[str, Spread]

    def to_yaml(self) -> str:
        """The profile as a file that `load_profiles` reads, with comments that say where it comes from."""
        return "\n".join([*self._lines(), ""])

    def write(self, path: str | Path) -> None:
        """Write the profile to `path`. Raises UsageError where that is not possible."""
        with replacing(Path(path)) as partial:
            partial.write_text(self.to_yaml(), encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        n = len(self.runs)
        yield from comment(provenance(self.runs, self.base))
        yield from comment(
            "Centres are geometric means at the last checkpoint. The distance of a run is the mean of |log10(figure / "
            f"centre)|, in decades; within the reach lie at least {1 - OUTSIDE:.0%} of fresh runs (Student's t with "
            f"N = {n}, logarithms taken as normal)."
        )
        yield "profile: 1"
        yield f"name: {self.profile.name}"
        yield f"reach: {self.profile.reach:.3g}"
        yield "centres:"
        for name, spread in self.spreads.items():
            metric = load_metrics()[name]
            figures = (10**spread.mean, 10**spread.low, 10**spread.high)
            centre, low, high = (plain(Decimal(f"{figure * factor(metric):.4g}")) for figure in figures)
            yield f"  {name}: {centre}{suffix(metric)}  # sd {spread.sd:.3g} decades, N {n}: {low} to {high}"


def calibrate_profile(
    runs: Sequence[RunOrRecord],
    *,
    name: str,
    base: BaseWeights | str | Path | None = None,
    weights: Selection = DEFAULT,
    across_bases: bool = False,
    **how: Unpack[How],
) -> CalibratedProfile:
    """The profile of the regime called `name`, from good runs of it. Arguments and errors as `calibrate`.

    Its reach is the mean over the diagnostics of the prediction interval's half-width for one more run, so that
    at most `OUTSIDE` of fresh runs lie beyond it.
    """
    if len(runs) < 2:
        raise UsageError(f"a profile needs two runs or more, best five; {len(runs)} given")
    requests = [evidence.request for evidence in EVIDENCE]
    records = records_of(runs, base=base, metrics=requests, weights=weights, **how)
    require_comparable(records, weights, across_bases=across_bases)
    found = [_logarithms(record, weights) for record in records]
    spreads = {e.metric: Spread.of([figures[e.metric] for figures in found]) for e in EVIDENCE}
    wide = Student(OUTSIDE).factor(len(records), len(EVIDENCE))
    reach = wide * statistics.fmean(spread.sd for spread in spreads.values())
    centres = {metric: 10**spread.mean for metric, spread in spreads.items()}
    w0 = "" if across_bases else records[0].fingerprints.get("W0", "")
    return CalibratedProfile(Profile(name, centres, reach), tuple(map(told, records)), w0, spreads)


def _logarithms(record: Record, weights: Selection) -> dict[str, float]:
    (figures,) = evidence_figures(record, weights, At(LAST, LAST, single=True)).values()
    zero = [name for name, value in figures.items() if value <= 0]
    if zero:
        raise UsageError(f"{record.path}: {zero[0]} is 0 at the last checkpoint, and a profile needs more than that")
    return {name: math.log10(value) for name, value in figures.items()}
