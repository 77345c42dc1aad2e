"""What is known of a run of which checkpoints come and go: the figures of those that were removed are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from geomcheck.checkpoints.run import Run, share_done
from geomcheck.checkpoints.scores import Account
from geomcheck.checkpoints.weights import Weight
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.record import Point, Record, Row, columns_of
from geomcheck.record.points import partners


def merged(known: Record | None, fresh: Record, run: Run) -> Record:
    """One record of everything that was measured: what is there now, and before it what was removed since.

    A figure is kept where it would be the same if nothing had been removed: one that compares checkpoints, only while
    it compares the same ones.

    Args:
        known: what this gave before.
        fresh: the measurement of the checkpoints that are there.
        run: theirs.
    """
    if known is None:
        return fresh
    gone = _gone(known, fresh, run)
    if not gone:
        return fresh
    points = tuple(sorted((*gone, *fresh.points), key=lambda point: point.step))
    record = replace(
        fresh,
        points=points,
        skipped={**known.skipped, **fresh.skipped, **_strangers(known.weights, fresh.weights)},
        weights=dict(sorted({**known.weights, **fresh.weights}.items())),
        versions={**known.versions, **fresh.versions},
        fingerprints={**known.fingerprints, **fresh.fingerprints},
        account=_told(known, fresh, gone),
        notes=(*fresh.notes, f"removed after they were measured: {', '.join(point.name for point in gone)}"),
    )
    lasting = chain(_lasting(fresh, fresh.points, record), _lasting(known, (*gone, *_same(known, fresh)), record))
    record.columns = columns_of(lasting)
    return record


def _gone(known: Record, fresh: Record, run: Run) -> tuple[Point, ...]:
    """The checkpoints that were measured and are not there any more.

    Where a checkpoint has come before some of them, the training went back to it: those are of a run that is no more.
    """
    before, now = {point.step for point in known.points}, {point.step for point in fresh.points}
    went_back = min(now - before, default=max(now) + 1)
    total = max(now) if run.planned is None else run.planned
    gone = [point for point in known.points if point.step not in now and point.step < went_back]
    return tuple(replace(point, progress=share_done(point.step, total, first=run.first)) for point in gone)


def _same(known: Record, fresh: Record) -> Iterator[Point]:
    """The checkpoints that hold what they held before."""
    for point in known.points:
        if known.fingerprints.get(point.name) == fresh.fingerprints.get(point.name):
            yield point


def _told(known: Record, fresh: Record, gone: tuple[Point, ...]) -> Account | None:
    """What the run says of itself, with the constraints that were said of checkpoints that were removed."""
    if known.account is None or fresh.account is None:
        return fresh.account
    before = {point.step: known.account.constraints.get(point.step) for point in gone}
    return replace(fresh.account, constraints={**before, **fresh.account.constraints})


def _strangers(known: dict[str, Weight], fresh: dict[str, Weight]) -> dict[str, str]:
    """Weights that cannot be followed along the run, as `survey` says it of checkpoints that are all there."""
    odd = dict.fromkeys(known.keys() ^ fresh.keys(), "not in every checkpoint, of which some were removed")
    for name in known.keys() & fresh.keys():
        if known[name] != fresh[name]:
            odd[name] = "its shape or storage format is another in checkpoints that were removed"
    return {name: reason for name, reason in odd.items() if {**known, **fresh}[name].is_matrix}


def _lasting(source: Record, points: tuple[Point, ...], record: Record) -> Iterator[Row]:
    """The figures of `source` at `points` that are figures of `record` too, as far as they compare only `points`."""
    metrics = load_metrics()
    steps = {point.step for point in points}
    for request, stat in source.measured():
        metric = metrics[request.metric]
        kept = {s for s in steps if _compared(metric, request.parameters(), source, record, s) <= steps}
        for (step, weight), figure in source.figures(request, stat).items():
            if step in kept:
                yield Row(step, weight, request, stat, figure)


def _compared(metric: Metric, params: dict[str, object], source: Record, record: Record, step: int) -> set[int | None]:
    """The steps that the figure at `step` is compared with; None among them where they are others in `record`."""
    there, here = (_index(points, step) for points in (source.points, record.points))
    theirs = {source.points[i].step for i in partners(metric, params, source.points, there)}
    same = theirs == {record.points[i].step for i in partners(metric, params, record.points, here)}
    if metric.against_reference:
        same &= source.points[there].progress == record.points[here].progress
    return {*theirs} if same else {None}


def _index(points: tuple[Point, ...], step: int) -> int:
    return next(index for index, point in enumerate(points) if point.step == step)
