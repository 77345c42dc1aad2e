"""The runs of a calibration: their records, and why two of them cannot be calibrated together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from geomcheck.checkpoints.formats import adapter
from geomcheck.errors import UsageError
from geomcheck.record import Point, Record
from geomcheck.record.points import matches
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.quantities import share_text
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.likeness import Difference, differences, start_difference
from geomcheck.suite.verdict import Unanswerable


def require_comparable(records: Sequence[Record], weights: Selection, *, across_bases: bool) -> None:
    """Refuse records that are not of one recipe, measured by one definition.

    Raises:
        UsageError: two of them differ in weights, storage, definitions or W0, or are the same run; both are named.
    """
    first, *others = records
    for other in others:
        for difference in _differences(first, other, weights, across_bases):
            raise UsageError(f"{first.path} and {other.path} cannot be calibrated together: {difference}")
    for one, other in combinations(records, 2):
        if identity(one) == identity(other):
            raise UsageError(
                f"{one.path} and {other.path} end with the same weights: they are one run, and say nothing about how "
                "runs differ. Give runs with different seeds"
            )


def _differences(one: Record, other: Record, weights: Selection, across_bases: bool) -> Iterator[Difference]:
    yield from differences(one, other, weights)
    start = start_difference(one, other)
    if not across_bases and start is not None:
        yield start
    trained = ["an adapter" if record.layout == adapter.LAYOUT else "all weights" for record in (one, other)]
    if trained[0] != trained[1]:
        yield Difference("what they train", *trained)


def told(record: Record) -> str:
    """The name of a run, and its identity."""
    return f"{record.run} ({identity(record)})"


def identity(record: Record) -> str:
    """The content of a run's last checkpoint, in short."""
    return record.fingerprints.get(record.points[-1].name, "unknown content")[:12]


def common_places(records: Sequence[Record], at: Sequence[Place] = ()) -> Places:
    """The checkpoints that all runs have: the places asked for, or else every one, by step or by progress.

    Raises:
        UsageError: the runs have other checkpoints than the first, or lack a place asked for.
    """
    places = Places(tuple(_fixed(place, records) for place in at)) if at else _every_place(records)
    for record in records:
        try:
            places.locate_all(record.points)
        except Unanswerable as error:
            raise UsageError(f"{record.path}: {error}. Calibrate checkpoints that all runs have, with --at") from None
    return places


def _every_place(records: Sequence[Record]) -> Places:
    first = records[0].points
    steps = [[point.step for point in record.points] for record in records]
    if all(those == steps[0] for those in steps):
        return Places(tuple(Place(step=point.step) for point in first))
    for record, those in zip(records, steps, strict=True):
        near = (matches(point, other.progress) for point, other in zip(record.points, first, strict=False))
        if len(those) != len(first) or not all(near):
            shown = " against ".join(" ".join(map(str, listed)) for listed in (steps[0], those))
            raise UsageError(
                f"{records[0].path} and {record.path} have other checkpoints: steps {shown}. Name those that all runs "
                "have, with --at"
            )
    return Places(tuple(map(_by_progress, first)))


def _by_progress(point: Point) -> Place:
    return Place(progress=share_text(round(point.progress, 4)))


def _fixed(place: Place, records: Sequence[Record]) -> Place:
    """`first` and `last` as the step that they mean where all runs agree on it, else as a progress."""
    if place.word is None:
        return place
    points = [record.points[place.index(record.points)] for record in records]
    if len({point.step for point in points}) == 1:
        return Place(step=points[0].step)
    return _by_progress(points[0])
