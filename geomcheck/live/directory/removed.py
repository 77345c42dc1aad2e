"""The figures of checkpoints that were measured and have been removed since."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from geomcheck.checkpoints import Account, Run, Weight
from geomcheck.checkpoints.run import share_done
from geomcheck.checkpoints.weights import is_weight
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.record import Point, Record, Row, columns_of
from geomcheck.record.points import partners


def with_removed(known: Record, fresh: Record, run: Run) -> Record:
    """One record of what is there now, and of what was removed before.

    A figure of `known`, what this gave before, is kept where it would be the same if nothing had been removed: one that
    compares checkpoints, only while it compares the same ones. `fresh` is the measurement of the checkpoints of `run`.
    """
    total = fresh.points[-1].step if run.planned is None else run.planned
    gone = tuple(
        replace(point, progress=share_done(point.step, total, first=run.first))
        for point in without_undone(known.points, fresh.points)
        if point.step < fresh.points[-1].step  # where the training began anew, later ones are of a run that is no more
    )
    if not gone:
        return fresh
    record = replace(
        fresh,
        points=tuple(sorted((*gone, *fresh.points), key=lambda point: point.step)),
        skipped={**known.skipped, **fresh.skipped, **_incomparable(known.weights, fresh.weights)},
        weights=dict(sorted({**known.weights, **fresh.weights}.items())),
        versions={**known.versions, **fresh.versions},
        fingerprints={**known.fingerprints, **fresh.fingerprints},
        account=_account(known, fresh, gone),
        notes=(*fresh.notes, f"removed after they were measured: {', '.join(point.name for point in gone)}"),
    )
    same = (p for p in known.points if known.fingerprints.get(p.name) == fresh.fingerprints.get(p.name))
    lasting = chain(_lasting(fresh, fresh.points, record), _lasting(known, (*gone, *same), record))
    record.columns = columns_of(lasting)
    return record


def without_undone(before: Iterable[Point], now: Sequence[Point]) -> Iterator[Point]:
    """Those of `before` that were removed, and are still part of the run that `now` belongs to.

    Where a checkpoint has come before some of them, the training went back to it and repeats those steps.
    """
    before, steps = tuple(before), {point.step for point in now}
    went_back_to = min(steps - {point.step for point in before}, default=math.inf)
    return (point for point in before if point.step not in steps and point.step < went_back_to)


def _account(known: Record, fresh: Record, gone: Iterable[Point]) -> Account | None:
    """What the run says of itself, and the constraints of the checkpoints that were removed."""
    if known.account is None or fresh.account is None:
        return fresh.account
    before = {point.step: known.account.constraints.get(point.step) for point in gone}
    return replace(fresh.account, constraints={**before, **fresh.account.constraints})


def _incomparable(known: dict[str, Weight], fresh: dict[str, Weight]) -> dict[str, str]:
    """Weights that cannot be followed along the run, as `survey` says it of checkpoints that are all there."""
    odd = dict.fromkeys(known.keys() ^ fresh.keys(), "not in every checkpoint, of which some were removed")
    for name in known.keys() & fresh.keys():
        if known[name] != fresh[name]:
            odd[name] = "its shape or storage format is another in checkpoints that were removed"
    return {name: reason for name, reason in odd.items() if is_weight({**known, **fresh}[name])}


def _lasting(source: Record, points: Sequence[Point], record: Record) -> Iterator[Row]:
    """The figures of `source` at `points` that are figures of `record` too, as far as they compare only `points`."""
    steps = {point.step for point in points}
    for request, stat in source.measured():
        metric, params = load_metrics()[request.metric], request.parameters()
        kept = {s for s in steps if _compared(metric, params, source, record, s) <= steps}
        for (step, weight), figure in source.figures(request, stat).items():
            if step in kept:
                yield Row(step, weight, request, stat, figure)


def _compared(metric: Metric, params: dict[str, object], source: Record, record: Record, step: int) -> set[int | None]:
    """The steps that the figure at `step` is compared with; None among them where they are others in `record`."""
    there, here = ([point.step for point in known.points].index(step) for known in (source, record))
    theirs = {source.points[i].step for i in partners(metric, params, source.points, there)}
    same = theirs == {record.points[i].step for i in partners(metric, params, record.points, here)}
    if metric.needs_reference(params):
        same &= source.points[there].progress == record.points[here].progress
    return {*theirs} if same else {None}
