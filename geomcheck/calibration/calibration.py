"""What a calibration came to, and the suite file of it that people read and edit."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from geomcheck._version import VERSION
from geomcheck.calibration.normal import about as normal_about
from geomcheck.calibration.statistics import BandRule, Spread
from geomcheck.diagnostics import Metric, Unit
from geomcheck.files import replacing
from geomcheck.suite.language.places import Place
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.normal import Normal

_BARE = re.compile(r"[\w.%+-]+(?: [a-z]+)?")
"""Texts that YAML reads as they are."""

WIDTH = 116
DIGITS = 3
"""Significant digits of a band's width that are kept when its ends are rounded outwards."""


@dataclass(frozen=True)
class PlacedBand:
    """The band of one metric at one checkpoint, in the metric's unit (degrees for angles), within its range."""

    place: Place
    low: float
    high: float
    spread: Spread


@dataclass(frozen=True)
class Calibrated:
    """A metric with its bands, in the order of training, and what is normal for single weights; `of` is the word for
    its weights where they are not those of the suite."""

    metric: Metric
    bands: tuple[PlacedBand, ...]
    normal: Normal | None = None
    of: str = ""


@dataclass(frozen=True)
class Omitted:
    """A metric that the suite does not hold, and why."""

    metric: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Bands for the next run of a recipe.

    Attributes:
        runs: name and content of the runs, in the order given.
        base: content of W0; empty where the runs started from different weights.
        weights: the weights that figures are folded over, and their number.
        storage: formats of W0 and of the runs; empty where weights differ in them.
        applies_to: patterns of run names; empty for all.
        trains: the word for the tensors that moved in every run, while no others did; empty where there is none.
        warnings: what makes the bands less trustworthy than they look.
        power: what the suite would notice, in a line; empty where that was not tried.
    """

    name: str
    applies_to: tuple[str, ...]
    runs: tuple[str, ...]
    base: str
    weights: Selection
    count: int
    storage: tuple[str, ...]
    rule: BandRule
    bands: int
    expectations: tuple[Calibrated, ...]
    left_out: tuple[Omitted, ...]
    trains: str = ""
    warnings: tuple[str, ...] = ()
    power: str = ""

    def to_yaml(self) -> str:
        """The suite, with comments that say where each band comes from."""
        expectations = [line for expectation in self.expectations for line in ("", *_expectation(expectation))]
        if self.trains:
            same = f"# the same in all {len(self.runs)} runs"
            expectations += ["", "  - id: trained", f"    trains: {self.trains}   {same}"]
        return "\n".join([*_heading(self), "", "expect:", *expectations[1:], *_normals(self), ""])

    def write(self, path: str | Path) -> None:
        """Write the suite to `path`. Raises UsageError where that is not possible."""
        with replacing(Path(path)) as partial:
            partial.write_text(self.to_yaml(), encoding="utf-8")


def _heading(calibration: Calibration) -> Iterator[str]:
    n = len(calibration.runs)
    yield from comment(provenance(calibration.runs, calibration.base))
    yield from comment(
        f"{calibration.count} weights ({calibration.weights.text}). The figures of other weights, and of other storage "
        "formats, are other figures: calibrate again."
    )
    yield "#"
    yield from comment("Each band is " + calibration.rule.describe(n=n, bands=calibration.bands))
    yield from comment(
        "Bands stay within the range of their figure, hold all N runs, and are rounded outwards. A figure that was "
        "the same in all runs must stay the same."
    )
    for warning in calibration.warnings:
        yield from comment(f"WARNING: {warning}.")
    if calibration.left_out:
        yield "#"
        yield "# Left out:"
        for left in calibration.left_out:
            yield from comment(f"{left.metric}: {left.reason}", indent="  ")
    if calibration.power:
        yield "#"
        yield from comment(f"Power: {calibration.power}")
    yield "geomcheck: 1"
    yield f"name: {calibration.name}"
    if calibration.applies_to:
        yield f"applies_to: {_scalar(list(calibration.applies_to))}"
    yield f"weights: {_scalar(calibration.weights.plain)}"
    if calibration.storage:
        yield f"storage: [{', '.join(calibration.storage)}]   # W0, run"


def provenance(runs: Sequence[str], base: str) -> str:
    """Which runs a calibration comes from, in words."""
    start = f"W0: {base}." if base else "They started from different W0 (--across-bases)."
    return f"Calibrated by geomcheck {VERSION} on N = {len(runs)} runs: {', '.join(runs)}. {start}"


def comment(text: str, indent: str = "") -> list[str]:
    """`text` as YAML comments."""
    clean = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    start = f"# {indent}"
    return textwrap.wrap(clean, WIDTH, initial_indent=start, subsequent_indent=f"{start}  ", break_on_hyphens=False)


def _id(metric: Metric) -> str:
    return metric.name.replace("_", "-")


def _expectation(expectation: Calibrated) -> Iterator[str]:
    metric = expectation.metric
    yield f"  - id: {_id(metric)}{f'-of-{expectation.of}' * bool(expectation.of)}"
    yield f"    metric: {metric.name}"
    if expectation.of:
        yield f"    weights: {expectation.of}"
    for name, value in metric.defaults.items():
        yield f"    {name}: {_scalar(value)}"
    if all(band.spread.constant and band.spread == expectation.bands[0].spread for band in expectation.bands):
        band = expectation.bands[0]
        yield f"    within: {_ends(band, metric)}   # the same in all {band.spread.n} runs"
        return
    if expectation.of:
        (band,) = expectation.bands
        yield f"    within: {_ends(band, metric)}   # {_origin(band, metric)}"
        yield f"    at: {{{_place(band.place)}}}"
        return
    yield "    bands:"
    entries = [f"{{{_place(band.place)}, within: {_ends(band, metric)}}}" for band in expectation.bands]
    width = max(map(len, entries))
    for band, entry in zip(expectation.bands, entries, strict=True):
        yield f"      - {entry:{width}}  # {_origin(band, metric)}"


def _normals(calibration: Calibration) -> Iterator[str]:
    normals = [(e.metric, e.normal) for e in calibration.expectations if e.normal is not None]
    if not normals:
        return
    yield ""
    yield from comment(normal_about(len(calibration.runs)))
    yield "normal:"
    for metric, normal in normals:
        yield f"  {_id(metric)}: |"
        yield from (f"    {line}" for line in normal.text.splitlines())


def _ends(band: PlacedBand, metric: Metric) -> str:
    """The band as YAML, rounded outwards to `DIGITS` digits of its width."""
    low, high = (Decimal(end) * factor(metric) for end in (band.low, band.high))
    width = float(high - low)
    places = DIGITS - 1 - math.floor(math.log10(width)) if width > 0 else 17
    quantum = Decimal(1).scaleb(-places)
    ends = (low.quantize(quantum, ROUND_FLOOR), high.quantize(quantum, ROUND_CEILING)) if width > 0 else (low, high)
    return f"[{', '.join(f'{plain(end)}{suffix(metric)}' for end in ends)}]"


def plain(number: Decimal) -> str:
    """`number` as a YAML number that reads well: 0.0123, 1.2e-05."""
    if number == 0:
        return "0"
    return f"{number.normalize():f}" if 1e-4 <= abs(number) < 1e7 else f"{number.normalize():e}"


def _origin(band: PlacedBand, metric: Metric) -> str:
    spread, scale = band.spread, factor(metric)
    mean, sd, low, high = (f"{value * scale:.4g}" for value in (spread.mean, spread.sd, spread.low, spread.high))
    return f"mean {mean}, sd {sd}, N {spread.n}: {low} to {high}"


def factor(metric: Metric) -> int:
    """What figures of `metric` are multiplied with to be written."""
    return 100 if metric.is_share else 1


def suffix(metric: Metric) -> str:
    """The unit behind figures of `metric`."""
    if metric.unit is Unit.DEGREES:
        return " deg"
    return "%" if metric.is_share else ""


def _place(place: Place) -> str:
    return f"step: {place.step}" if place.step is not None else f"progress: {place.progress}"


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_quoted, value)) + "]"
    return _quoted(value) if isinstance(value, str) and not _BARE.fullmatch(value) else str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
