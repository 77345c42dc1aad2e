"""What a calibration came to, and the suite file of it that people read and edit."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from geomcheck._version import VERSION
from geomcheck.calibration.figures import ByRun, expectation_id
from geomcheck.calibration.normal import about as normal_about
from geomcheck.calibration.rules import BandRule
from geomcheck.calibration.statistics import PlacedBand
from geomcheck.diagnostics import Metric, Unit
from geomcheck.files import replacing
from geomcheck.suite.good_runs import Figures, GoodRuns, Row
from geomcheck.suite.language.places import Place
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.normal import Normal

_BARE = re.compile(r"[\w.%+-]+(?: [a-z]+)?")
"""Texts that YAML reads as they are."""

WIDTH = 116
ACROSS = "They started from different W0 (--across-bases)."
DIGITS = 3
"""Significant digits of a band's width that are kept when its ends are rounded outwards."""


@dataclass(frozen=True)
class Calibrated:
    """A metric with its bands, in the order of training, and what is normal for single weights; `of` is the word for
    its weights where they are not those of the suite."""

    metric: Metric
    bands: tuple[PlacedBand, ...]
    normal: Normal | None = None
    of: str = ""

    @property
    def id(self) -> str:
        """Of its expectation."""
        return expectation_id(self.metric, self.of)

    @property
    def is_constant(self) -> bool:
        """Whether all runs have one figure at every checkpoint."""
        return all(band.spread.constant and band.spread == self.bands[0].spread for band in self.bands)


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
        each_weight: the metric whose ranges each weight is held to by itself; None for none.
        trains: the word for the tensors that moved in every run, while no others did; empty where there is none.
        warnings: what makes the bands less trustworthy than they look.
        good: what the runs had, which another run must have.
        figures: of the runs, by id of the expectation.
        words: what these figures are of.
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
    each_weight: Metric | None = None
    trains: str = ""
    warnings: tuple[str, ...] = ()
    good: GoodRuns = field(default_factory=GoodRuns)
    figures: Mapping[str, ByRun] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    power: str = ""

    def to_yaml(self) -> str:
        """The suite, with comments that say where each band comes from."""
        expectations = [line for expectation in self.expectations for line in ("", *_expectation(expectation))]
        if self.each_weight:
            expectations += ["", *_each_weight(self.each_weight)]
        if self.trains:
            same = f"# the same in all {len(self.runs)} runs"
            expectations += ["", "  - id: trained", f"    trains: {self.trains}   {same}"]
        return "\n".join([*_heading(self), "", "expect:", *expectations[1:], *_good(self), *_normals(self), ""])

    def write(self, path: str | Path) -> None:
        """Write the suite to `path`. Raises UsageError where that is not possible."""
        with replacing(Path(path)) as partial:
            partial.write_text(self.to_yaml(), encoding="utf-8")


def _heading(calibration: Calibration) -> Iterator[str]:
    yield from comment(provenance(calibration.runs, calibration.base))
    yield from comment(
        f"{calibration.count} weights ({calibration.weights.text}). The figures of other weights, and of other storage "
        "formats, are other figures: calibrate again."
    )
    yield "#"
    yield from comment(rule_in_words(calibration))
    yield from comment(
        "Bands stay within the range of their figure, hold all N runs, and are rounded outwards. A figure that was "
        "the same in all runs must stay the same."
    )
    for warning in calibration.warnings:
        yield from warning_lines(warning)
    if calibration.left_out:
        yield "#"
        yield "# Left out:"
        for left in left_out_lines(calibration):
            yield from comment(left, indent="  ")
    if calibration.power:
        yield "#"
        yield from comment(f"Power: {calibration.power}")
    yield "geomcheck: 1"
    yield f"name: {calibration.name}"
    if calibration.applies_to:
        yield f"applies_to: {_scalar(list(calibration.applies_to))}   # names of runs that it is for (--applies-to)"
    yield f"weights: {_scalar(calibration.weights.plain)}"
    if calibration.storage:
        yield f"storage: [{', '.join(calibration.storage)}]   # W0, run"


def left_out_lines(calibration: Calibration) -> list[str]:
    """Which metrics are held by no band and why, a line per reason."""
    by_reason: dict[str, list[str]] = {}
    for left in calibration.left_out:
        by_reason.setdefault(left.reason, []).append(left.metric)
    return [f"{', '.join(metrics)}: {reason}" for reason, metrics in by_reason.items()]


def rule_in_words(calibration: Calibration) -> str:
    """From the runs to a band, in a sentence."""
    return "Each band is " + calibration.rule.describe(n=len(calibration.runs), bands=calibration.bands)


def warning_lines(warning: str) -> list[str]:
    """A warning as YAML comments."""
    return comment(f"WARNING: {warning}.")


def provenance(runs: Sequence[str], base: str) -> str:
    """Which runs a calibration comes from, in words."""
    start = f"W0: {base}." if base else ACROSS
    return f"Calibrated by geomcheck {VERSION} on N = {len(runs)} runs: {', '.join(runs)}. {start}"


def comment(text: str, indent: str = "") -> list[str]:
    """`text` as YAML comments."""
    clean = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    start = f"# {indent}"
    return textwrap.wrap(clean, WIDTH, initial_indent=start, subsequent_indent=f"{start}  ", break_on_hyphens=False)


def _expectation(expectation: Calibrated) -> Iterator[str]:
    metric = expectation.metric
    yield f"  - id: {expectation.id}"
    yield f"    metric: {metric.name}"
    if expectation.of:
        yield f"    weights: {expectation.of}"
    for name, value in metric.defaults.items():
        yield f"    {name}: {_scalar(value)}"
    yield from condition_lines(expectation)
    yield from why_lines(expectation)


def condition_lines(expectation: Calibrated) -> Iterator[str]:
    """What is demanded, as YAML: a band for all checkpoints, for one, or for each of several."""
    metric = expectation.metric
    band, *others = expectation.bands
    if expectation.is_constant:
        yield f"    within: {ends(band, metric)}   # {origin(band, metric)}"
    elif not others:
        yield f"    within: {ends(band, metric)}   # {origin(band, metric)}"
        yield f"    at: {band.place.word or f'{{{_place(band.place)}}}'}"
    else:
        yield "    bands:"
        entries = [f"{{{_place(each.place)}, within: {ends(each, metric)}}}" for each in expectation.bands]
        width = max(map(len, entries))
        for each, entry in zip(expectation.bands, entries, strict=True):
            yield f"      - {entry:{width}}  # {origin(each, metric)}"


def why(metric: Metric, place: Place, low: float, high: float) -> str:
    """Why a figure is held: what it shows, and what good runs had at the last place that has a band."""
    least, most = (f"{value * factor(metric):.3g}{suffix(metric)}" for value in (low, high))
    return f"{metric.plainly.shows} Good runs had {least}{f' to {most}' * (least != most)} at {place.phrase}."


def why_lines(expectation: Calibrated) -> list[str]:
    """The same as YAML, of an expectation."""
    band = expectation.bands[-1]
    text = why(expectation.metric, band.place, band.spread.low, band.spread.high)
    return ["    why: >-", *textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _good(calibration: Calibration) -> Iterator[str]:
    """The heading of what the runs had, with their figures."""
    yield ""
    yield from comment(
        "What the good runs had. A run with another w0, weights or layout is an error: delete a key to hold it no "
        "longer. `geomcheck calibrate --update` adds runs to these."
    )
    yield "calibrated:"
    yield from (f"  {line}" for line in good_lines(calibration))


def good_lines(calibration: Calibration) -> list[str]:
    """The lines under ``calibrated``."""
    figures = {e.id: _figures(e, calibration) for e in calibration.expectations if e.id in calibration.figures}
    return replace(calibration.good, figures=figures).text


def _figures(expectation: Calibrated, calibration: Calibration) -> Figures:
    by_run = calibration.figures[expectation.id]
    rows = (
        Row(each.place, ends(each, expectation.metric)[1:-1], tuple(figures[each.place] for figures in by_run))
        for each in expectation.bands
    )
    return Figures(calibration.words[expectation.id], tuple(rows))


def _each_weight(metric: Metric) -> Iterator[str]:
    yield "  - id: each-weight"
    yield f"    metric: {metric.name}"
    yield "    per: weight"
    yield "    normal: each weight   # the ranges at the end of this file"
    yield "    why: >-"
    yield "      One weight that stands still, or lags behind, is lost in the mean of all."


def _normals(calibration: Calibration) -> Iterator[str]:
    normals = [(e.id, e.normal) for e in calibration.expectations if e.normal is not None]
    if not normals:
        return
    yield ""
    yield from comment(normal_about(len(calibration.runs)))
    yield "normal:"
    for name, normal in normals:
        yield f"  {name}: |"
        yield from (f"    {line}" for line in normal.text.splitlines())


def ends(band: PlacedBand, metric: Metric) -> str:
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


def origin(band: PlacedBand, metric: Metric) -> str:
    """Where a band comes from, in words."""
    if band.spread.constant:
        return f"the same in all {band.spread.n} runs"
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
    if place.word:
        return f"at: {place.word}"
    return f"step: {place.step}" if place.step is not None else f"progress: {place.progress}"


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_quoted, value)) + "]"
    return _quoted(value) if isinstance(value, str) and not _BARE.fullmatch(value) else str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
