"""The work of rank 0: measure, remember, write the record, judge."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from geomcheck.checkpoints import BaseWeights, Checkpoint, Run, WeightSource, comparable
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError, UsageError
from geomcheck.live.loop import figures
from geomcheck.live.loop.following import Agenda, follow_weight
from geomcheck.live.loop.history import Followed, History, Step
from geomcheck.live.loop.observation import Beginning, Observation
from geomcheck.live.loop.plan import Asked, Wanted, plan, signature
from geomcheck.live.loop.start import departures
from geomcheck.measurement import Cache, require_sound, survey
from geomcheck.measurement.device import prepared
from geomcheck.measurement.execute import fill
from geomcheck.record import Point, Record, write_record
from geomcheck.suite.due import SoFar, judge_so_far

logger = logging.getLogger("geomcheck.training")

HEADROOM = 0.8
"""Share of the budget that the first observation may use, so that the next ones, a little slower, keep its weights."""


@dataclass(kw_only=True)
class Watch:
    """A training that is watched.

    Attributes:
        wanted: what for.
        run: its directory, and its name for suites.
        path: of the record file; None for none.
        total_steps: of the whole training.
        stops: whether a violation stops the training.
        resume_at: the step that the training goes on from, if it was interrupted.
        record: of the observations so far.
    """

    wanted: Wanted
    base: BaseWeights
    run: Path
    name: str
    path: Path | None
    history: History
    total_steps: int
    reference: Record | None
    budget: float | None
    stops: bool
    device: torch.device
    cache: Cache
    resume_at: int | None = None
    record: Record | None = None
    _asked: Asked | None = None
    _told: set[str] = field(default_factory=set)

    def begin(self, weights: WeightSource, *, compare: bool) -> Beginning:
        """What there is to watch. Raises UsageError where there is nothing."""
        run, base = self._opened(weights, Point("start", 1, 0.0))
        asked = plan(survey(run, base), self.wanted)
        off = departures(run.checkpoints[0].source, base.source, list(asked)) if compare else ()
        return Beginning(len(asked), tuple(off))

    def observe(self, point: Point, weights: WeightSource, *, finished: bool) -> Observation:
        """Measure the weights as they are at `point`, and judge what is known by now.

        Raises:
            UsageError: `point` does not come later than the last one, or there is nothing to watch.
            RunError: the weights cannot be measured, or are not those of W0's model.
        """
        start = time.perf_counter()
        run, base = self._opened(weights, point)
        asked = self._planned(survey(run, base))
        self._require_later(point)
        points = (*self.history.points, point)
        run = replace(run, checkpoints=tuple(_at(run.checkpoints[0], point) for point in points))
        record = survey(run, base)
        with prepared(self.device):
            step = self._measured(points, asked, record.skipped, run.checkpoints[-1].source, base.source, start)
        self.history.require_continued(step)
        self.history.add(step)
        self._complete(record, asked, base)
        self.record = record
        if self.path is not None:
            write_record(record, self.path)
        judged = [
            judge_so_far(expectation, record, finished=finished, reference=self.reference)
            for expectation in (self.wanted.suite.expectations if self.wanted.suite else ())
        ]
        return self._observation(record, asked, judged, start)

    def _require_later(self, point: Point) -> None:
        done = self.history.points
        if point.step < 1 or (done and point.step <= done[-1].step):
            raise UsageError(
                f"step {point.step} cannot be observed"
                + (f" after step {done[-1].step}" if done else ": steps count from 1")
            )

    def _opened(self, weights: WeightSource, point: Point) -> tuple[Run, BaseWeights]:
        """A run of the one checkpoint that there is, and W0, under the same canonical names."""
        checkpoint = Checkpoint(point.name, point.step, point.progress, weights)
        return comparable(Run(self.name, self.run, (checkpoint,), None), self.base)

    def _planned(self, record: Record) -> Asked:
        """What is asked of each weight. At the first observation that is found out, and the history taken up."""
        if self._asked is None:
            self._asked = plan(record, self.wanted)
            if self.resume_at is None:
                self.history.forget()
            else:
                self._take_up(self.resume_at, self._asked)
        return self._asked

    def _take_up(self, step: int, asked: Asked) -> None:
        try:
            by_progress = any('"progress"' in request.params for requests in asked.values() for request in requests)
            self.history.resume(step, signature(asked), total_steps=self.total_steps, by_progress=by_progress)
        except RunError as error:
            logger.warning(
                "the record starts anew at step %d: what was kept of the steps before cannot be used: %s", step, error
            )
            self.history.forget()

    def _measured(
        self,
        points: Sequence[Point],
        asked: Asked,
        changed: Mapping[str, str],
        current: WeightSource,
        base: WeightSource,
        start: float,
    ) -> Step:
        """The new checkpoint, of as many weights as the budget allows, without what is `changed` beyond comparison."""
        agenda = Agenda.of(points, set().union(*asked.values()))
        known = self.history.watched
        left_out = self.history.skipped
        names = [name for name in known or asked if name not in left_out]
        seconds = None if self.budget is None else self.budget * (1 if known else HEADROOM)
        followed: dict[str, Followed] = {}
        skipped = {name: f"{points[-1].name}: {changed[name]}" for name in names if name in changed}
        for name in names:
            if name in skipped:
                continue
            if followed and seconds is not None and time.perf_counter() - start > seconds:
                break
            try:
                followed[name] = follow_weight(
                    name,
                    asked[name],
                    agenda,
                    self.history.kept(name),
                    base=partial(base.read, name),
                    current=partial(current.read, name),
                    device=self.device,
                    memory=self.cache,
                )
            except RunError as error:
                skipped[name] = str(error)
        if not followed:
            raise RunError(f"no weight could be measured, such as {_first(skipped)}")
        return Step(points[-1], signature(asked), followed, skipped)

    def _complete(self, record: Record, asked: Asked, base: BaseWeights) -> None:
        """Add the figures of all observations to a record of the weights, and leave out what is not watched."""
        watched, skipped = set(self.history.watched), self.history.skipped
        unwatched = asked.keys() - watched - skipped.keys()
        record.weights = {name: weight for name, weight in record.weights.items() if name not in unwatched}
        record.skipped = dict(sorted({**record.skipped, **skipped}.items()))
        if unwatched:
            record.notes = (
                *record.notes,
                f"measured while training, {len(watched)} of {len(asked)} weights in the {self.budget:g} s that an "
                "observation may take: figures are of these weights alone",
            )
        fill(record, {name: self.history.measured(name) for name in watched}, load_metrics(), str(self.device))
        try:
            require_sound(record, base)
        except RunError as error:
            record.notes = (*record.notes, str(error))
            self._warn(str(error))

    def _observation(self, record: Record, asked: Asked, judged: Sequence[SoFar], start: float) -> Observation:
        settled = [so_far.verdict for so_far in judged if so_far.verdict is not None and so_far.standing == "settled"]
        violations = tuple(verdict for verdict in settled if verdict.outcome == "failed")
        watched = len(self.history.watched)
        seconds = time.perf_counter() - start
        shown = {
            **figures.of_requests(record, self.wanted.requests),
            **figures.of_expectations(record, judged, self.reference),
            f"{figures.PREFIX}seconds": seconds,
            f"{figures.PREFIX}watched_weights": float(watched),
        }
        return Observation(
            step=record.points[-1].step,
            figures=shown,
            violations=violations,
            unjudged=tuple(verdict for verdict in settled if verdict.outcome == "error"),
            open=tuple(so_far.due.expectation.id for so_far in judged if so_far.standing != "settled"),
            stop=bool(violations) and self.stops,
            seconds=seconds,
            watched=watched,
            weights=len(asked),
        )

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.warning(text)


def _at(checkpoint: Checkpoint, point: Point) -> Checkpoint:
    return replace(checkpoint, name=point.name, step=point.step, progress=point.progress)


def _first(skipped: Mapping[str, str]) -> str:
    return next((f"{name}: {reason}" for name, reason in skipped.items()), "none was asked for")
