"""What reports read of a verdict: its facts, as `Verdict.to_dict` gives them, and what a picture needs beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from geomcheck.checkpoints.weights import Layers
from geomcheck.diagnostics import Unit
from geomcheck.record import Record
from geomcheck.suite import Expectation, judge
from geomcheck.suite.conditions.parts import OWN_RANGE
from geomcheck.suite.conditions.wording import BOUND_DIGITS, RANGE_DIGITS, Writes, against, between
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import ALL
from geomcheck.suite.language.quantities import Scale
from geomcheck.suite.verdict import Bounds, Facts, ObservedFacts

Key = TypeVar("Key")
Item = TypeVar("Item")


class SessionFacts(Facts):
    """A verdict of a session: of which run, by which suite, and the suite's path."""

    run: str
    suite: str
    path: str


_AT = {"all": "every checkpoint", "first": "the first checkpoint", "last": "the last checkpoint"}
_FOLD = {"weighted": "mean weighted by size"}


def where_judged(facts: Facts) -> str:
    """At which checkpoints, and of what, the condition is demanded: ``every checkpoint, mean over weights``."""
    at = _AT.get(facts["at"], facts["at"])
    return ", ".join(part for part in (at, _folded(facts)) if part)


def demanded(facts: Facts) -> str:
    """What is allowed, where: ``0.281 to 0.316 at every checkpoint, mean over weights``."""
    if facts["kind"] == "bands":  # which name their checkpoints
        return ", ".join(part for part in (facts["condition"], _folded(facts)) if part)
    words = facts["condition"] if facts["bounds"] is None else band(facts)
    return f"{words} at {where_judged(facts)}"


def _folded(facts: Facts) -> str:
    """Of what the figure is."""
    if not facts["fold"]:
        return ""
    fold, per = _FOLD.get(facts["fold"], facts["fold"]), facts["per"]
    if per == "weight":
        return "for each weight"
    return f"{fold} over weights" if per == "run" else f"{fold} over the weights of each {per}"


def shown(value: float | None, facts: Facts) -> str:
    """A figure in percent where its suite writes percent, else without its unit; a dash where there is none."""
    return "-" if value is None else _scale(facts).show(value)


def _scale(facts: Facts) -> Scale:
    return Scale(Unit.NUMBER, facts["percent"])


def grouped(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """The items of each key, all in the order in which they came."""
    groups: dict[Key, list[Item]] = {}
    for key, item in pairs:
        groups.setdefault(key, []).append(item)
    return groups


def by_group(entries: Iterable[ObservedFacts]) -> dict[str | None, list[ObservedFacts]]:
    """What was observed, by group; the group of a whole run is None."""
    return grouped((entry["group"], entry) for entry in entries)


def known(entries: Iterable[ObservedFacts]) -> list[tuple[ObservedFacts, float]]:
    """The entries that have a figure, each with it."""
    return [(entry, entry["value"]) for entry in entries if entry["value"] is not None]


def groups_outside(facts: Facts) -> list[str | None]:
    """The groups that violate the condition at some checkpoint."""
    return list(dict.fromkeys(entry["group"] for entry in facts["observed"] if entry["holds"] is False))


def by_themselves(facts: Facts) -> str:
    """What the furthest of a verdict's weights are, where none is outside of what is normal for it; empty elsewhere."""
    listed = facts["worst"]
    if not listed or not facts["fold"] or any(worst["outside"] for worst in listed):
        return ""
    if listed[0]["outside"] is None:
        return "from the others"
    return "though none is outside of what is normal for it"


def bounds_of(facts: Facts) -> Bounds | None:
    """The allowed band: the condition's, or where every checkpoint has its own, that of the one that decided."""
    bounds, decisive = facts["bounds"], facts["decisive"]
    found = decisive if bounds is None and decisive is not None and "low" in decisive else bounds
    return None if found is None else (found["low"], found["high"])


def decided(facts: Facts) -> str:
    """The figure that decided, with enough digits to be told from the bound that it violates; a dash where there is
    none."""
    decisive, bounds = facts["decisive"], bounds_of(facts)
    if decisive is None or decisive["value"] is None:
        return "-"
    if bounds is None or decisive["holds"] is not False:
        return shown(decisive["value"], facts)
    return against(decisive["value"], bounds, _scale(facts))


def band(facts: Facts, written: Writes | None = None) -> str:
    """What is allowed, in words: ``0.281 to 0.316 at step 40`` where every checkpoint has its own band, ``above 85%``;
    the condition where that is no band. Figures are as suites have them, or as a page has them `written`."""
    bounds, decisive = bounds_of(facts), facts["decisive"]
    if bounds is None or bounds == (None, None):
        return facts["condition"]
    own = facts["bounds"] is None and decisive is not None
    words = between(bounds, written or _scale(facts), bound_digits(facts))
    return words + (f" at step {decisive['step']}" if own and decisive else "")


def bound_digits(facts: Facts) -> int:
    """Significant digits of what is allowed: those of a suite's bounds, or of the ranges of single weights."""
    return RANGE_DIGITS if facts["condition"] == OWN_RANGE else BOUND_DIGITS


def distance(facts: Facts) -> float:
    """How far a violation is off, in half widths of its band, to compare: without end where the band is one figure, 0
    where there is none."""
    bounds, decisive = bounds_of(facts), facts["decisive"]
    if bounds and bounds[0] == bounds[1] and decisive and decisive["holds"] is False:
        return math.inf
    return half_widths(facts) or 0.0


def half_widths(facts: Facts) -> float | None:
    """How far the decisive figure is outside its band, in half widths of that; of a band with one bound in multiples of
    the bound. None where there is no such figure."""
    decisive, bounds = facts["decisive"], bounds_of(facts)
    if decisive is None or decisive["value"] is None or decisive["holds"] is not False or bounds is None:
        return None
    value, (low, high) = decisive["value"], bounds
    off = max(0.0 if low is None else low - value, 0.0 if high is None else value - high)
    width = (high - low) / 2 if low is not None and high is not None else abs((low if high is None else high) or 0.0)
    return off / width if width else None


@dataclass(frozen=True)
class Judged:
    """One expectation on one run.

    Attributes:
        suite: name of its suite.
        facts: the verdict as `Verdict.to_dict` gives it.
        whole: the folded figure at every checkpoint, judged or not, in the shape of ``observed``.
        layers: the same per layer, where the expectation is about the run as a whole; of a band of the run's figure
            `holds` says whether each weight of the layer is normal by itself, ``low`` and ``high`` between which ends
            the layer's figure lies then; None, and absent, where that is not known.
    """

    suite: str
    facts: Facts
    whole: Sequence[ObservedFacts] = ()
    layers: Sequence[ObservedFacts] = ()


def early(facts: Facts) -> str:
    """How a verdict was decided before every weight was measured, in words; empty where it was not."""
    decided = facts.get("decided")  # older versions told nothing
    return decided["words"] if decided is not None and "weights" in decided else ""


def judged(suite: str, facts: Facts, expectation: Expectation, record: Record, reference: Record | None) -> Judged:
    """Look at `expectation` again, at every checkpoint and layer by layer; its verdict stays as it is."""
    if facts["outcome"] == "error":
        return Judged(suite, facts)
    everywhere = expectation if expectation.condition.own_places is not None else replace(expectation, at=ALL)
    whole = facts["observed"] if everywhere.at == expectation.at else _observed(everywhere, record, reference)
    by_layer = expectation.per == "run" and expectation.condition.by_layer
    if by_layer:
        layers = _observed(replace(everywhere, per="layer"), record, reference)
        return Judged(suite, facts, whole, _by_themselves(layers, everywhere, record, reference))
    return Judged(suite, facts, whole)


def _by_themselves(
    layers: Sequence[ObservedFacts], expectation: Expectation, record: Record, reference: Record | None
) -> Sequence[ObservedFacts]:
    """The figures of layers, held against what is normal for their weights instead of the band of the whole run."""
    condition, ranges = expectation.condition, expectation.normal
    if condition.bounds is None and condition.own_places is None:
        return layers
    called = Layers(record.weights.values())
    normal: dict[tuple[int, str | None], dict[str, tuple[float, float, float]]] = {}
    at = {point.step: ranges.at(point.step, record.points) for point in record.points} if ranges else {}
    for entry, value in known(_observed(replace(expectation, per="weight"), record, reference)) if ranges else ():
        name, step = entry["group"] or "", entry["step"]
        ends = at[step].get(name)
        if ends is not None:
            normal.setdefault((step, called.label(record.weights[name])), {})[name] = (value, *ends)

    def held(entry: ObservedFacts) -> ObservedFacts:
        own = normal.get((entry["step"], entry["group"]))
        bare = ObservedFacts(step=entry["step"], group=entry["group"], value=entry["value"], holds=None)
        if own is None:
            return bare
        lows, highs = ({name: ends[side] for name, ends in own.items()} for side in (1, 2))
        low, high = (fold(ends, expectation.fold, record.weights) for ends in (lows, highs))
        within = all(lowest <= value <= highest for value, lowest, highest in own.values())
        return {**bare, "holds": within, "low": low, "high": high}

    return [held(entry) for entry in layers]


def _observed(expectation: Expectation, record: Record, reference: Record | None) -> list[ObservedFacts]:
    return [observed.to_dict() for observed in judge(expectation, record, reference).observed]
