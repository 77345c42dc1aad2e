"""From a record, the figures that an expectation is about; or the reason why there are none to judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from geomcheck._text import and_more
from geomcheck.checkpoints.weights import Weight
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import RecordError
from geomcheck.record import Point, Record, Request, is_trivial
from geomcheck.record.column import Table
from geomcheck.suite.language.places import PREVIOUS, At, Place, Places, parse_place
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.verdict import Counts, Unanswerable

FROZEN = "frozen_share"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a record: a figure, of some weights, at some checkpoints; `series` needs two or more."""

    metric: Metric
    params: Mapping[str, Any]
    weights: Selection
    at: At | Places
    series: bool = False

    @cached_property
    def request(self) -> Request:
        """The measurement that answers it."""
        return Request.of(self.metric, self.params)

    @property
    def partners(self) -> dict[str, Place]:
        """The checkpoints that the metric compares each one with, by parameter."""
        places = self.metric.places(self.params)
        return {name: parse_place(place, others=("previous",)) for name, place in places.items()}

    def settle(self, record: Record) -> Subject:
        """The weights and checkpoints of `record` that this is about; looks at no figure.

        Raises Unanswerable where there are none, or a figure of them would be fixed whatever happened.
        """
        judgeable = self.judgeable(record)
        selected = self.at.select(record.points)
        points = [point for point in selected if point in judgeable]
        if not points:
            instead = ", or compare with another" if self.metric.trivial_at else ""
            raise Unanswerable(
                f"{self.metric.name} at step {selected[0].step} {self.metric.why_trivial}, and "
                f"`at` ({self.at.text}) selects no other; judge another one{instead}"
            )
        if self.series and len(points) < 2:
            raise Unanswerable(f"a trend needs two checkpoints or more; `at` ({self.at.text}) leaves {len(points)}")
        chosen = self.chosen(record)
        skipped = [weight.name for weight in chosen if weight.name in record.skipped]
        if skipped:
            raise Unanswerable(
                f"{skipped[0]} cannot be measured: {record.skipped[skipped[0]]}{and_more(len(skipped))}; "
                "repair the run, or exclude such weights"
            )
        first: dict[tuple[int, ...], Weight] = {}
        for weight in chosen:
            first.setdefault(weight.shape, weight)
        for weight in first.values():
            self._require_subspace(weight)
        return Subject(tuple(chosen), tuple(points))

    def chosen(self, record: Record) -> list[Weight]:
        """The weights of `record` that this is about. Raises Unanswerable."""
        if self.metric.of_entries:
            return self.weights.select(record.weights)
        return self.weights.matrices(record.weights, self.metric.name)

    def judgeable(self, record: Record) -> tuple[Point, ...]:
        """The checkpoints of `record` at which the figure is not fixed by definition. Raises Unanswerable."""
        points = record.points
        if not points:
            raise Unanswerable("the run has no checkpoints")
        across = self.metric.is_across(self.params)
        if len(points) < 2 and (across or self.series):
            what = self.metric.name if across else "a trend"
            raise Unanswerable(f"{what} compares checkpoints, and the run has only one (step {points[0].step})")
        self.require_places(points)
        return tuple(p for i, p in enumerate(points) if not is_trivial(self.metric, self.params, points, i))

    def require_places(self, points: Sequence[Point]) -> None:
        """Raise Unanswerable where a parameter names a checkpoint that the run does not have."""
        for name, place in self.partners.items():
            try:
                if place != PREVIOUS:
                    place.index(points)
            except Unanswerable as error:
                raise Unanswerable(f"`{name}`: {error}") from None

    def _require_subspace(self, weight: Weight) -> None:
        for name, k in self.metric.spanned(self.params, weight.shape).items():
            out, into = weight.shape
            given = self.params[name]
            means = f" ({given})" if isinstance(given, str) else ""
            raise Unanswerable(
                f"{name} = {k}{means} spans the whole of {weight.name}, which is {out} x {into}: "
                f"the figure would be the same whatever happened; at most {min(out, into) - 1} is "
                "possible there, or exclude such weights"
            )


def has_figure(metric: Metric, params: Mapping[str, Any], weight: Weight) -> bool:
    """Whether the metric says something of weights of this shape: of a matrix, or entry by entry."""
    return (metric.of_entries or weight.is_matrix) and not metric.spanned(params, weight.shape)


@dataclass(frozen=True)
class Subject:
    """The selected weights, by name, and the judged checkpoints, ascending."""

    weights: tuple[Weight, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sample:
    """Figures to fold.

    Attributes:
        cells: by step, then by weight name; weights unchanged at a step are absent where the metric has no
            figure for them.
        used: the weights that are folded, by name: those that changed at some checkpoint, and of the others those of
            which the metric has a figure.
        frozen: the weights that never changed, by name.
    """

    cells: Mapping[int, Mapping[str, float]]
    used: Mapping[str, Weight]
    frozen: Mapping[str, Weight]


def sample(question: Question, record: Record, subject: Subject) -> Sample:
    """Read the figures of `subject`.

    Raises:
        Unanswerable: all weights are frozen, or a figure is undefined, missing, or of another definition.
        RecordError: the record holds no such measurement.
    """
    _require_version(question.metric, record)
    _require_version(load_metrics()[FROZEN], record)
    still = unchanged(record, subject.weights)
    moved: np.ndarray = ~np.all(still, axis=0)
    frozen = {weight.name: weight for weight, has_moved in zip(subject.weights, moved, strict=True) if not has_moved}
    if not moved.any() and question.metric.name != FROZEN:
        raise Unanswerable(
            f"none of the {len(frozen)} selected weights ever changed: there is no update to judge "
            "(frozen by the training, or the base is the run itself)"
        )
    judged = np.isin([point.step for point in record.points], [point.step for point in subject.points])
    names, steps = [weight.name for weight in subject.weights], [point.step for point in subject.points]
    figures = Table.of(record.column(question.request, question.metric.stat(question.params)), steps, names)
    still = still[judged]
    leave_out = still & (figures.there & np.isnan(figures.values) if question.metric.when_unchanged else True)
    folded = moved | ~np.all(leave_out, axis=0)
    used = {weight.name: weight for weight, is_used in zip(subject.weights, folded, strict=True) if is_used}
    cells = _cells(question, figures, subject.points, names, leave_out, partial=bool(record.left_out))
    for point, changeless in zip(subject.points, np.all(still[:, folded], axis=1).tolist(), strict=True):
        if question.metric.name != FROZEN and changeless:
            raise Unanswerable(
                f"no selected weight has changed at step {point.step}: there is no update to judge there; "
                "judge later checkpoints"
            )
    return Sample(cells, used, frozen)


def default_sample(
    metric: Metric, record: Record, weights: Selection, at: At | Places, params: Mapping[str, Any] | None = None
) -> Sample:
    """The figures of `metric` with default parameters, but for `params`. Raises Unanswerable, which names the run."""
    question = Question(metric=metric, params={**metric.defaults, **(params or {})}, weights=weights, at=at)
    try:
        return sample(question, record, question.settle(record))
    except (Unanswerable, RecordError) as error:
        raise Unanswerable(f"{record.run}: {error}") from None


def counts(question: Question, record: Record) -> Counts:
    """How the selected weights of `record` divide, as far as that can be told."""
    try:
        chosen = question.chosen(record)
        skipped = [weight for weight in chosen if weight.name in record.skipped]
        rest = tuple(weight for weight in chosen if weight.name not in record.skipped)
        frozen = int(unchanged(record, rest).all(axis=0).sum())
    except (Unanswerable, RecordError):
        return Counts()
    unfolded = 0 if question.metric.when_unchanged else frozen
    return Counts(len(rest) - unfolded, frozen, len(skipped))


def fused_warning(weights: Iterable[Weight]) -> tuple[str, ...]:
    """A sentence where one of the judged `weights` holds several projections in one."""
    fused = sorted((weight for weight in weights if weight.fused), key=lambda weight: weight.name)
    if not fused:
        return ()
    return (
        f"{fused[0].name}{and_more(len(fused))} holds several projections, measured as one matrix, whose figures are "
        f"not those of its parts: {fused[0].fused}",
    )


def _require_version(metric: Metric, record: Record) -> None:
    version = record.versions.get(metric.name)
    if version is None:
        request = f"the record of run {record.run!r} holds no {metric.name}"
        raise Unanswerable(f"{request}; measured: {', '.join(sorted(record.versions)) or 'nothing'}")
    if version != metric.version:
        raise Unanswerable(
            f"the record of run {record.run!r} holds {metric.name} by definition {version}, and this geomcheck "
            f"judges by definition {metric.version}; measure the run again"
        )


def unchanged(record: Record, weights: Sequence[Weight]) -> np.ndarray:
    """Which of `weights` (columns) equal W0 at which checkpoint of the record (rows). Raises Unanswerable."""
    steps, names = [point.step for point in record.points], [weight.name for weight in weights]
    shares = Table.of(record.column(Request.of(load_metrics()[FROZEN], {}), "value"), steps, names)
    unknown = ~np.isin(shares.values, (0, 1))
    if unknown.any():
        place = int(unknown.any(axis=0).argmax())
        missing = np.flatnonzero(~shares.there[:, place]).tolist()
        if not missing:
            raise Unanswerable(f"the record does not tell whether {names[place]} changed; measure the run again")
        where = "" if len(missing) == len(steps) else f" at step {steps[missing[0]]}"
        raise Unanswerable(f"the record has no figures of {names[place]}{where}; measure the run with this suite")
    return shares.values == 1


def _cells(
    question: Question,
    figures: Table,
    points: Sequence[Point],
    names: Sequence[str],
    leave_out: np.ndarray,
    *,
    partial: bool,
) -> dict[int, dict[str, float]]:
    """The figures of the weights `names` at `points`, but those to `leave_out` (points x names)."""
    _require_figures(question, figures, points, names, ~leave_out, partial=partial)
    cells = {}
    for point, row, left in zip(points, figures.values.tolist(), leave_out, strict=True):
        named = zip(names, row, strict=True)
        cells[point.step] = dict(compress(named, (~left).tolist()) if left.any() else named)
    return cells


def _require_figures(
    question: Question,
    figures: Table,
    points: Sequence[Point],
    names: Sequence[str],
    asked: np.ndarray,
    *,
    partial: bool,
) -> None:
    """Raise Unanswerable where a figure that is `asked` for is not there, or is undefined."""
    absent = np.argwhere(asked & ~figures.there)
    if len(absent):
        row, place = absent[0].tolist()
        raise Unanswerable(
            f"the record has no {question.metric.name} of {names[place]} at step {points[row].step}; measure the run "
            f"again with this suite{', without --geom-budget: the record is partial' if partial else ''}"
        )
    undefined = np.argwhere(asked & ~np.isfinite(figures.values))
    if len(undefined):
        row, place = undefined[0].tolist()
        reason = figures.reasons.get((row, place)) or f"the record holds {figures.values[row, place]}"
        others = len(undefined) - 1
        more = f" (and {others} more figure{'s' if others > 1 else ''})" if others else ""
        raise Unanswerable(
            f"{question.metric.name} is undefined for {names[place]} at step {points[row].step}: {reason}{more}"
        )
