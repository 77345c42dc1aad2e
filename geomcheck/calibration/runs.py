"""The runs of a calibration: their records, and why two of them cannot be calibrated together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations, takewhile

from geomcheck.errors import UsageError
from geomcheck.record import Point, Record, digests
from geomcheck.record.points import matches, training_steps
from geomcheck.suite.good_runs import GoodRuns, layout_of
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.quantities import share_text
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.likeness import Difference, differences, start_difference
from geomcheck.suite.verdict import Unanswerable

ANY_RUN = frozenset(
    {"good", "ok", "clean", "seed", "run", "baseline", "base", "ref", "reference", "rep", "repeat", "trial", "try"}
    | {"attempt", "checkpoint", "ckpt", "output", "out", "model", "train", "training", "exp", "experiment", "test"}
    | {"new", "final", "result", "job", "version", "main", "default"}
)
"""Words in names of runs that say nothing of the recipe."""


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
        if not digests.comparable(identity(one), identity(other)):
            raise UsageError(
                f"{one.path} and {other.path} cannot be told apart, which may be one run: {digests.UNLIKE}. Measure "
                "both with one geomcheck"
            )


def require_further(records: Sequence[Record], past: GoodRuns) -> None:
    """Refuse records that cannot be added to the good runs of a suite. Raises UsageError."""
    for record in records:
        if other := past.difference(record):
            raise UsageError(f"{record.path} cannot be added to the runs of the suite: {other}")
        if past.steps and training_steps(record.points) != past.steps:
            raise UsageError(
                f"{record.path} cannot be added to the runs of the suite: its training is of "
                f"{training_steps(record.points)} steps, and theirs was of {past.steps}"
            )
        if twin := next((run for run in past.runs if run.endswith(f"({identity(record)})")), ""):
            raise UsageError(f"{record.path} is in the suite already, as {twin}: it ends with the same weights")
        known = ((run, found[1]) for run in past.runs if (found := _TOLD.search(run)))
        if older := next((run for run, content in known if not digests.comparable(content, identity(record))), ""):
            raise UsageError(
                f"{record.path} may be in the suite already, as {older}: {digests.UNLIKE}. Calibrate all runs anew"
            )


def _differences(one: Record, other: Record, weights: Selection, across_bases: bool) -> Iterator[Difference]:
    yield from differences(one, other, weights)
    start = start_difference(one, other)
    if not across_bases and start is not None:
        yield start
    trained = [layout_of(record) for record in (one, other)]
    if trained[0] != trained[1]:
        yield Difference("what they train", *trained)


_TOLD = re.compile(rf" \(({digests.PATTERN}{{12}})\)$")
"""The identity at the end of what `told` gives; a line that was written by hand has none."""


def told(record: Record) -> str:
    """The name of a run, and its identity."""
    return f"{record.run} ({identity(record)})"


def identity(record: Record) -> str:
    """The content of a run's last checkpoint, in short."""
    return digests.short(record.fingerprints.get(record.points[-1].name, "unknown content"))


def common_places(records: Sequence[Record], at: Sequence[Place] = ()) -> Places:
    """The checkpoints that all runs have: the places asked for, or else every one, by step or by progress.

    Raises:
        UsageError: the runs have other checkpoints than the first, or lack a place asked for.
    """
    places = Places(tuple(at)) if at else _every_place(records)
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


def common_pattern(names: Sequence[str]) -> tuple[str, ...]:
    """The pattern of the names of runs of this recipe, by what `names` begin or end with alike: ``*opd-8b*``.

    Only whole words count, and at the ends none that is of any run, such as ``good`` or ``seed``. Nothing where nothing
    is left, or all are called alike.
    """
    words = [re.split(r"([-_. ]+)", name) for name in names]
    for turned in (words, [list(reversed(one)) for one in words]):
        alike = [first for first, *others in takewhile(lambda column: len({*column}) == 1, zip(*turned, strict=False))]
        alike = alike if turned is words else alike[::-1]
        while alike and _says_nothing(alike[-1]):
            alike.pop()
        while alike and _says_nothing(alike[0]):
            del alike[0]
        stem = "".join(alike)
        if stem and len({*names}) > 1 and not any(character in stem for character in "*?["):
            return (f"*{stem}*",)
    return ()


def _says_nothing(word: str) -> bool:
    """Whether a word of a run's name may be in that of any run."""
    return len(letters := re.sub(r"[\W\d_]+", "", word).lower()) < 2 or letters.removesuffix("s") in ANY_RUN
