"""The cosine with a reference's update where one of the two is a record: from the sketches that both hold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from geomcheck.diagnostics.declaration import REFERENCE
from geomcheck.diagnostics.sketch import standard_error
from geomcheck.record import Figure, Point, Record
from geomcheck.record.column import Column
from geomcheck.record.points import matches, nearest
from geomcheck.suite.likeness import start_difference
from geomcheck.suite.sampling import Question, Sample
from geomcheck.suite.verdict import Unanswerable

COSINE = "update_cosine"
"""The one metric that sketches answer."""

LEAST = 1e-6
"""Error of the cosine of equal updates: sketches are kept in fp16."""


def answerable(question: Question, record: Record, reference: Record | None) -> bool:
    """Whether `question` is about the cosine with a reference that is here as a record, and weights have not answered
    it already. Raises Unanswerable where neither can: `record` is not of a run that was measured beside its reference.
    """
    if question.metric.name != COSINE or question.params.get("to") != REFERENCE:
        return False
    column = record.columns.get((question.request, question.metric.stat(question.params)))
    if reference is not None and len(reference.sketches.values):
        return column is None or len(column.undefined) == len(column.values)
    if column is None:
        raise Unanswerable(
            "of a record, `to: reference` needs the record of the reference run too, as this geomcheck writes it, with "
            "sketches of the updates: geomcheck measure REFERENCE -o FILE, and --geom-reference=FILE"
        )
    return False


def sketched(question: Question, record: Record, reference: Record) -> Record:
    """`record` with the cosines that `question`, which is `answerable`, asks for. Raises Unanswerable."""
    if not len(record.sketches.values):
        raise Unanswerable(
            f"the record of run {record.run!r} holds no sketches of its updates, as those of an older geomcheck do; "
            "measure the run again"
        )
    difference = start_difference(record, reference)
    if difference is not None:
        raise Unanswerable(f"{difference}: what the two changed cannot be compared")
    names = [weight.name for weight in question.weights.select(record.weights) if weight.name not in record.skipped]
    figures = {
        (point.step, name): figure
        for point in record.points
        for name, figure in zip(names, _cosines(record, point, reference, names), strict=True)
    }
    key = question.request, question.metric.stat(question.params)
    versions = {**record.versions, COSINE: question.metric.version}
    return replace(record, columns={**record.columns, key: Column.of(figures)}, versions=versions)


def _cosines(record: Record, point: Point, reference: Record, names: list[str]) -> Iterable[Figure]:
    """Of the weights `names` at one checkpoint."""
    other = nearest(reference.points, point.progress)
    if not matches(other, point.progress):
        far = f"the reference has no checkpoint near {point.progress:.0%} of training: the nearest is {other.name}"
        return [Figure(undefined=f"{far} at {other.progress:.0%}")] * len(names)
    alike = [name for name in names if name in reference.weights]
    alike = [name for name in alike if reference.weights[name].shape == record.weights[name].shape]
    found = record.sketches.cosines(point.step, reference.sketches, other.step, alike)
    untold = Figure(undefined=f"one of the two updates is zero, or the reference's {other.name} has no sketch of it")
    return [Figure(found[name]) if name in found else untold for name in names]


def sketch_warning(found: Sample) -> str:
    """How far the cosines are to be believed, in a sentence."""
    errors = [[standard_error(value) for value in values.values()] for values in found.cells.values()]
    single = max(LEAST, *(max(each) for each in errors))
    mean = max(LEAST, *(math.hypot(*each) / len(each) for each in errors))
    told = f"{COSINE} is told from sketches, as there is a record in place of weights: give or take {single:.2g}"
    return told + (f" for a weight, and {mean:.2g} for the mean of {len(errors[0])}" if len(errors[0]) > 1 else "")
