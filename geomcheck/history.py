"""The figures of one recipe across merges: a record each, and whether one drifts too slowly for any band to see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from geomcheck._version import VERSION
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import RecordError, UsageError
from geomcheck.record import Record, Request, digests
from geomcheck.record.points import matches
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import ALL, Place, Places
from geomcheck.suite.language.selection import DEFAULT, Selection
from geomcheck.suite.likeness import differences, start_difference
from geomcheck.suite.sampling import Question, default_sample
from geomcheck.suite.verdict import Unanswerable

ALPHA = 0.05
"""Of histories without any drift, at most so many are told to have one, over all their figures together."""


@dataclass(frozen=True)
class Entry:
    """A record of the history.

    Attributes:
        name: what it is called: its file's name.
        step: of its last checkpoint.
        apart: why its figures cannot be held beside those of the last record; empty where they can.
    """

    name: str
    run: str
    step: int
    apart: str = ""


@dataclass(frozen=True)
class Drift:
    """A monotone trend over records.

    Attributes:
        slope: of Theil and Sen, per record, in the metric's unit.
        low, high: its interval of 95%.
        p: of Mann and Kendall's test, two-sided, after Holm's correction for all figures that were tested.
        middle: the median figure; None where shares of it say nothing, as figures have both signs or are 0.
    """

    slope: float
    low: float
    high: float
    p: float
    middle: float | None

    def relative(self, amount: float) -> float | None:
        """An amount as a share of the median figure."""
        return None if self.middle is None else amount / abs(self.middle)

    @property
    def is_significant(self) -> bool:
        """Whether it is more than chance gives."""
        return self.p < ALPHA


@dataclass(frozen=True)
class Series:
    """A metric with its parameters at the last checkpoint of each record; None where a record has no such figure."""

    metric: Metric
    request: Request
    values: tuple[float | None, ...]
    reasons: tuple[str, ...]
    drift: Drift | None = None

    @property
    def since_first(self) -> float | None:
        """The relative change from the first figure to the last."""
        known = [value for value in self.values if value is not None]
        return _relative(known[0], known[-1]) if len(known) > 1 else None

    @property
    def since_previous(self) -> float | None:
        """The relative change from the figure before the last to the last."""
        known = [value for value in self.values if value is not None]
        return _relative(known[-2], known[-1]) if len(known) > 1 else None


@dataclass(frozen=True)
class History:
    """Records in their order, and the figures that two or more of them have.

    Attributes:
        tested: how many records the trend is tested over: those that can be held beside the last.
        needed: how many would be needed, at the least, to tell any drift.
    """

    entries: tuple[Entry, ...]
    series: tuple[Series, ...]
    tested: int
    needed: int
    notes: tuple[str, ...] = ()

    @cached_property
    def drifting(self) -> list[Series]:
        """Those that drift, the surest first."""
        found = [one for one in self.series if one.drift is not None and one.drift.is_significant]
        return sorted(found, key=lambda one: one.drift.p if one.drift else 1.0)

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins."""
        return {
            "format": 1,
            "geomcheck": VERSION,
            "order": "given",
            "records": [{"name": e.name, "run": e.run, "step": e.step, "apart": e.apart or None} for e in self.entries],
            "tested": self.tested,
            "needed": self.needed,
            "metrics": [
                {
                    "metric": one.metric.name,
                    "params": one.request.parameters(),
                    "unit": one.metric.unit.value,
                    "values": list(one.values),
                    "reasons": [reason or None for reason in one.reasons],
                    "since_first": one.since_first,
                    "since_previous": one.since_previous,
                    "drift": None
                    if one.drift is None
                    else {
                        "per_record": one.drift.slope,
                        "low": one.drift.low,
                        "high": one.drift.high,
                        "relative": one.drift.relative(one.drift.slope),
                        "p": one.drift.p,
                        "significant": one.drift.is_significant,
                    },
                }
                for one in self.series
            ],
            "notes": list(self.notes),
        }


def history(
    records: Sequence[Record],
    *,
    names: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    weights: Selection = DEFAULT,
) -> History:
    """Hold records side by side, in the order in which they are given: each at its last checkpoint, or the last where a
    figure is not fixed by definition.

    Args:
        names: of the records; by default those of their runs.
        metrics: their names; by default all that two records or more hold.
        weights: figures are folded over these, as suites fold them.

    Raises:
        UsageError: fewer than two records, or none has such a figure.
    """
    if len(records) < 2:
        raise UsageError(f"a history needs two records or more; {len(records)} given")
    last = records[-1]
    names = names or [record.run for record in records]
    apart = [_apart(record, last, weights) for record in records]
    entries = [Entry(n, r.run, r.points[-1].step, a) for n, r, a in zip(names, records, apart, strict=True)]
    found = [one for one in _series(records, weights) if not metrics or one.metric.name in metrics]
    if not found:
        raise UsageError(f"no two of these records hold {', '.join(metrics or ['a figure'])} of these weights")
    kept = [index for index, why in enumerate(apart) if not why]
    found = _tested(found, kept)
    tests = max(1, sum(one.drift is not None for one in found))
    starts = [(n, start_difference(record, last)) for n, record in zip(names, records, strict=True)]
    other, untold = (
        [n for n, found in starts if found is not None and bool(found.untold) is unknown] for unknown in (False, True)
    )
    notes = [f"{entry.name} is not in the test for drift: {entry.apart}" for entry in entries if entry.apart]
    notes += [f"another W0 than that of {names[-1]}: {', '.join(other)}"] if other else []
    notes += (
        [f"not known to be from the W0 of {names[-1]}: {', '.join(untold)}: {digests.UNLIKE}; measure those runs again"]
        if untold
        else []
    )
    return History(tuple(entries), tuple(found), len(kept), _needed(tests), tuple(notes))


def _apart(record: Record, last: Record, weights: Selection) -> str:
    """Why the figures of a record cannot be held beside those of the last."""
    try:
        found = next(differences(record, last, weights), None)
    except Unanswerable as error:
        return str(error)
    if found is not None:
        return str(found)
    ours, theirs = record.points[-1], last.points[-1]
    if ours.step != theirs.step or not matches(ours, theirs.progress):
        return f"its last checkpoint is at step {ours.step}, that of the last record at step {theirs.step}"
    return ""


def _series(records: Sequence[Record], weights: Selection) -> Iterator[Series]:
    """The figures of every request that stands for its metric, and of which two records or more have one."""
    requests = sorted({key for record in records for key in record.measured()})
    for request, stat in requests:
        metric = load_metrics().get(request.metric)
        if metric is None or stat != metric.stat({}):
            continue
        found = [_figure(metric, request, record, weights) for record in records]
        if sum(value is not None for value, _ in found) > 1:
            values, reasons = zip(*found, strict=True)
            yield Series(metric, request, values, reasons)


def _figure(metric: Metric, request: Request, record: Record, weights: Selection) -> tuple[float | None, str]:
    """The folded figure, or why there is none."""
    params = request.parameters()
    question = Question(metric=metric, params={**metric.defaults, **params}, weights=weights, at=ALL)
    try:
        points = question.judgeable(record)
        if not points:
            raise Unanswerable("it is fixed by definition at every checkpoint")
        found = default_sample(metric, record, weights, Places((Place(step=points[-1].step),)), params)
        return fold(found.cells[points[-1].step], metric.fold, found.used), ""
    except (Unanswerable, RecordError) as error:
        return None, str(error)


def _tested(found: Sequence[Series], kept: Sequence[int]) -> list[Series]:
    """The same with their drifts, where they vary and all records that can be compared have one."""
    from scipy import stats  # which takes a second

    drifts: dict[int, Drift] = {}
    for index, one in enumerate(found):
        values = [one.values[place] for place in kept]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or len(known) < 3 or min(known) == max(known):
            continue
        p = float(stats.kendalltau(range(len(known)), known).pvalue)
        slope, _, low, high = map(float, stats.theilslopes(known))
        middle = sorted(known)[len(known) // 2]
        of_one_sign = min(known) > 0 or max(known) < 0
        drifts[index] = Drift(slope, low, high, p if math.isfinite(p) else 1.0, middle if of_one_sign else None)
    corrected = _holm({index: drift.p for index, drift in drifts.items()})
    settled = {index: replace(drift, p=corrected[index]) for index, drift in drifts.items()}
    return [replace(one, drift=settled.get(index)) for index, one in enumerate(found)]


def _holm(found: dict[int, float]) -> dict[int, float]:
    """Probabilities corrected for how many there are, so that one of them errs as rarely as a single test."""
    corrected: dict[int, float] = {}
    least = 0.0
    for rank, (index, p) in enumerate(sorted(found.items(), key=lambda pair: pair[1])):
        least = max(least, min(1.0, p * (len(found) - rank)))
        corrected[index] = least
    return corrected


def _needed(tests: int) -> int:
    """The fewest records of which a strictly monotone figure is significant beside so many others."""
    count = 3
    while 2 / math.factorial(count) * tests >= ALPHA:
        count += 1
    return count


def _relative(before: float, after: float) -> float | None:
    if before == after:
        return 0.0
    return (after - before) / abs(before) if before else None
