"""From a record, the figures that an expectation is about; or the reason why there are none to judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomcheck.checkpoints.weights import Weight
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.errors import RecordError
from geomcheck.measurement.places import is_trivial
from geomcheck.measurement.record import Point, Record
from geomcheck.measurement.request import Request
from geomcheck.suite.places import At, Places, parse_place
from geomcheck.suite.selection import Selection
from geomcheck.suite.verdict import Counts, Unanswerable

FROZEN = "frozen_share"
ROUNDING = "rounding_share"
SENSITIVE_TO_ROUNDING = frozenset(
    {
        "stable_rank",
        "hill_exponent",
        "subspace_alignment",
        "subspace_energy",
        "top_energy",
        "principal_energy",
        "spectral_share",
    }
)
ROUNDING_LIMIT = 0.1


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a record: a figure, of some weights, at some checkpoints; `series` needs two or more."""

    metric: Metric
    params: Mapping[str, Any]
    weights: Selection
    at: At | Places
    series: bool = False

    @property
    def request(self) -> Request:
        """The measurement that answers it."""
        return Request.of(self.metric, self.params)

    def settle(self, record: Record) -> Subject:
        """The weights and checkpoints of `record` that this is about; looks at no figure.

        Raises:
            Unanswerable: there are none, or a figure of them would be fixed whatever happened.
        """
        judgeable = self.judgeable(record)
        selected = self.at.select(record.points)
        points = [point for point in selected if point in judgeable]
        if not points:
            raise Unanswerable(
                f"{self.metric.name} at step {selected[0].step} compares that checkpoint with itself, and "
                f"`at` ({self.at.text}) selects no other; judge another one, or compare with another"
            )
        if self.series and len(points) < 2:
            raise Unanswerable(f"a trend needs two checkpoints or more; `at` ({self.at.text}) leaves {len(points)}")
        chosen = self.weights.select(record.weights)
        skipped = [weight.name for weight in chosen if weight.name in record.skipped]
        if skipped:
            more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
            raise Unanswerable(
                f"{skipped[0]} cannot be measured: {record.skipped[skipped[0]]}{more}; "
                "repair the run, or exclude such weights"
            )
        for weight in chosen:
            self._require_subspace(weight)
        return Subject(tuple(chosen), tuple(points))

    def judgeable(self, record: Record) -> tuple[Point, ...]:
        """The checkpoints of `record` at which the figure is not fixed by definition. Raises Unanswerable."""
        points = record.points
        if not points:
            raise Unanswerable("the run has no checkpoints")
        if len(points) < 2 and (self.metric.across or self.series):
            what = self.metric.name if self.metric.across else "a trend"
            raise Unanswerable(f"{what} compares checkpoints, and the run has only one (step {points[0].step})")
        self._require_places(points)
        return tuple(p for i, p in enumerate(points) if not is_trivial(self.metric, self.params, points, i))

    def _require_places(self, points: Sequence[Point]) -> None:
        """Raise Unanswerable where a parameter names a checkpoint that the run does not have."""
        for parameter in self.metric.parameters:
            if parameter.kind != "checkpoint" or self.params[parameter.name] == "previous":
                continue
            try:
                parse_place(self.params[parameter.name]).index(points)
            except Unanswerable as error:
                raise Unanswerable(f"`{parameter.name}`: {error}") from None

    def _require_subspace(self, weight: Weight) -> None:
        out, into = weight.shape
        for name, k in self.metric.spanned(self.params, weight.shape).items():
            given = self.params[name]
            means = f" ({given})" if isinstance(given, str) else ""
            raise Unanswerable(
                f"{name} = {k}{means} spans the whole of {weight.name}, which is {out} x {into}: "
                f"the figure would be the same whatever happened; at most {min(out, into) - 1} is "
                "possible there, or exclude such weights"
            )


@dataclass(frozen=True)
class Subject:
    """The selected matrices, by name, and the judged checkpoints, ascending."""

    weights: tuple[Weight, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sample:
    """Figures to fold.

    Attributes:
        cells: by step, then by weight name; weights unchanged at a step are absent where the metric has no
            figure for them.
        used: the weights that changed at some checkpoint, by name.
        frozen: the names of those that never did, and are not folded.
    """

    cells: Mapping[int, Mapping[str, float]]
    used: Mapping[str, Weight]
    frozen: tuple[str, ...]


def sample(question: Question, record: Record, subject: Subject) -> Sample:
    """Read the figures of `subject`.

    Raises:
        Unanswerable: all weights are frozen, or a figure is undefined, missing, or of another definition.
        RecordError: the record holds no such measurement.
    """
    _require_version(question.metric, record)
    _require_version(load_metrics()[FROZEN], record)
    frozen, unchanged = _unchanged(record, subject)
    if question.metric.name == FROZEN:
        frozen = ()
    used = {weight.name: weight for weight in subject.weights if weight.name not in frozen}
    if not used:
        raise Unanswerable(
            f"none of the {len(frozen)} selected weights ever changed: there is no update to judge "
            "(frozen by the training, or the base is the run itself)"
        )
    leave_out = set() if question.metric.when_unchanged else unchanged
    cells = _cells(question, record, subject, used, leave_out)
    for step in cells:
        if question.metric.name != FROZEN and all((step, name) in unchanged for name in used):
            raise Unanswerable(
                f"no selected weight has changed at step {step}: there is no update to judge there; "
                "judge later checkpoints"
            )
    return Sample(cells, used, frozen)


def counts(question: Question, record: Record) -> Counts:
    """How the selected weights of `record` divide, as far as that can be told."""
    try:
        chosen = question.weights.select(record.weights)
        skipped = [weight for weight in chosen if weight.name in record.skipped]
        rest = tuple(weight for weight in chosen if weight.name not in record.skipped)
        frozen, _ = _unchanged(record, Subject(rest, ()))
    except (Unanswerable, RecordError):
        return Counts()
    unfolded = 0 if question.metric.name == FROZEN else len(frozen)
    return Counts(len(rest) - unfolded, len(frozen), len(skipped))


def rounding_warning(question: Question, record: Record, found: Sample) -> tuple[str, ...]:
    """A sentence where storage rounding explains much of the update that the metric describes."""
    if question.metric.name not in SENSITIVE_TO_ROUNDING:
        return ()
    try:
        figures = record.figures(Request.of(load_metrics()[ROUNDING], {}), "value")
    except RecordError:
        return ()
    worst: tuple[float, int] = (0.0, 0)
    for step, values in found.cells.items():
        known = [figures[step, name].value for name in sorted(values) if (step, name) in figures]
        shares = [share for share in known if share is not None]
        if shares:
            worst = max(worst, (math.fsum(shares) / len(shares), step))
    if worst[0] <= ROUNDING_LIMIT:
        return ()
    return (
        f"storage rounding explains {worst[0]:.0%} of the update at step {worst[1]} (mean over the weights): "
        f"{question.metric.name} describes the rounding as much as the training; prefer fp32 checkpoints",
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


def _unchanged(record: Record, subject: Subject) -> tuple[tuple[str, ...], set[tuple[int, str]]]:
    figures = record.figures(Request.of(load_metrics()[FROZEN], {}), "value")
    frozen, unchanged = [], set()
    all_steps = [point.step for point in record.points]
    for weight in subject.weights:
        missing = [step for step in all_steps if (step, weight.name) not in figures]
        if missing:
            where = "" if missing == all_steps else f" at step {missing[0]}"
            raise Unanswerable(f"the record has no figures of {weight.name}{where}; measure the run with this suite")
        if any(figures[step, weight.name].value not in (0, 1) for step in all_steps):
            raise Unanswerable(f"the record does not tell whether {weight.name} changed; measure the run again")
        steps = [step for step in all_steps if figures[step, weight.name].value == 1]
        unchanged |= {(step, weight.name) for step in steps}
        if steps == all_steps:
            frozen.append(weight.name)
    return tuple(frozen), unchanged


def _cells(
    question: Question,
    record: Record,
    subject: Subject,
    used: Mapping[str, Weight],
    leave_out: set[tuple[int, str]],
) -> dict[int, dict[str, float]]:
    figures = record.figures(question.request, question.metric.stat(question.params))
    cells: dict[int, dict[str, float]] = {}
    undefined: list[str] = []
    for point in subject.points:
        cells[point.step] = {}
        for name in used:
            if (point.step, name) in leave_out:
                continue
            cell = figures.get((point.step, name))
            if cell is None:
                raise Unanswerable(
                    f"the record has no {question.metric.name} of {name} at step {point.step}; measure the run "
                    "again with this suite"
                )
            if cell.value is None or not math.isfinite(cell.value):
                reason = cell.undefined or f"the record holds {cell.value}"
                undefined.append(f"{name} at step {point.step}: {reason}")
            else:
                cells[point.step][name] = cell.value
    if undefined:
        others = len(undefined) - 1
        more = f" (and {others} more figure{'s' if others > 1 else ''})" if others else ""
        raise Unanswerable(f"{question.metric.name} is undefined for {undefined[0]}{more}")
    return cells
