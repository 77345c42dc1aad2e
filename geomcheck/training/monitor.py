"""Watching the geometry of any training loop: measured against W0 as it goes, judged as soon as it can be."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from geomcheck.checkpoints import BaseModel, Checkpoint, Run, WeightSource, comparable, open_base
from geomcheck.checkpoints.formats import open_weights
from geomcheck.checkpoints.formats.adapter import Adapter
from geomcheck.checkpoints.formats.adapter_config import lora_settings
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError, UsageError
from geomcheck.files import require_writable
from geomcheck.measurement import Cache, Point, Record, Request, read_record, survey, write_record
from geomcheck.measurement.cache import require_outside
from geomcheck.measurement.device import parse_device
from geomcheck.measurement.execute import fill, require_sound
from geomcheck.suite import Suite, Verdict
from geomcheck.suite.due import SoFar, judge_so_far
from geomcheck.training import figures
from geomcheck.training.following import Agenda, follow_weight
from geomcheck.training.history import Followed, History, Step
from geomcheck.training.live import LiveModel, NamedTensors
from geomcheck.training.plan import Asked, Wanted, WeightsOption, plan, signature
from geomcheck.training.ranks import Gather, Ranks
from geomcheck.training.start import departures

logger = logging.getLogger("geomcheck.training")

HEADROOM = 0.8
"""Share of the budget that the first observation may use, so that the next ones, a little slower, keep its weights."""

OnViolation = Literal["warn", "stop"]

Weights = NamedTensors | str | Path


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        weights: how many will be watched, as far as the budget allows.
        departures: those of a few that are not as in W0; there should be none.
    """

    weights: int
    departures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What came of one look at the model.

    Attributes:
        figures: what a tracker shows, by name.
        violations: verdicts that no later checkpoint can mend, of expectations of level ``error``.
        unjudged: verdicts on expectations that cannot be judged, as things stand.
        stop: whether the training should stop.
        seconds: how long it took.
        watched, weights: of how many weights figures are known, and of how many they are wanted.
    """

    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    violations: tuple[Verdict, ...] = ()
    unjudged: tuple[Verdict, ...] = ()
    stop: bool = False
    seconds: float = 0.0
    watched: int = 0
    weights: int = 0


class Monitor:
    """Measures a model as it trains, keeps the record, and judges it.

    Use one on every rank, and let every rank `observe`: rank 0 measures and writes, the others gather with it.

    Between observations stay, per watched weight, its channels (K x in numbers) and figures; during one, one weight
    and its W0 are at hand, whatever the size of the model.

    Args:
        base: W0: a directory, a Hub id, or opened.
        suite: what must hold: a file, a shipped name, or loaded.
        metrics: what to measure besides, with default parameters unless given as requests; where neither this nor a
            suite is given, `geomcheck.training.plan.DEFAULT_METRICS`.
        weights: of which weights `metrics` are measured: ``attention``, ``mlp``, ``linear``, ``all``, or globs as in
            a suite.
        total_steps: of the whole training, for its progress.
        record: where the record is written after each observation, and beside it what a resumed training needs.
        run: the directory that the training writes to; nothing is written into it.
        name: of the run, as suites know it; by default the name of its directory.
        reference: a record for ``like: reference``.
        config: the architecture, under the keys of a Hugging Face ``config.json``; by default that of W0.
        budget: seconds that an observation may take. The weights that the first one manages in that time are those
            that are watched.
        on_violation: what an expectation of level ``error`` that no longer can hold comes to.
        device: where to compute: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        cache: a directory for factorizations of W0, so that they are computed once.

    Raises:
        UsageError: no such base, suite or metric; a record inside the run; a figure that a training cannot have.
        SuiteError: the suite is invalid.
    """

    def __init__(
        self,
        base: str | Path | BaseModel,
        suite: str | Path | Suite | None = None,
        *,
        total_steps: int,
        metrics: Sequence[str | Request] | None = None,
        weights: WeightsOption = None,
        record: str | Path | None = None,
        run: str | Path = "training",
        name: str | None = None,
        reference: str | Path | Record | None = None,
        config: Mapping[str, Any] | None = None,
        budget: float | None = None,
        on_violation: OnViolation = "warn",
        device: str = "cpu",
        cache: str | Path | None = None,
    ) -> None:
        if total_steps < 1:
            raise UsageError(f"total_steps is {total_steps}: give the number of steps of the whole training")
        if on_violation not in ("warn", "stop"):
            raise UsageError(f"on_violation is {on_violation!r}; allowed: 'warn', 'stop'")
        if budget is not None and not budget > 0:
            raise UsageError(f"budget is {budget}: give seconds per observation, or None for no bound")
        self._wanted = Wanted.of(suite, metrics, weights)
        self._base = base if isinstance(base, BaseModel) else open_base(base, "base")
        self._reference = reference if isinstance(reference, Record | None) else read_record(reference)
        self._total_steps = total_steps
        self._run = Path(run)
        self._name = name or self._run.resolve().name
        self._config = dict(config or {})
        self._budget = budget
        self._on_violation = on_violation
        self._device = parse_device(device)
        self._path = None if record is None else Path(record)
        inputs = [("the run", self._run), ("W0", self._base.source.path)]
        if self._path is not None:
            require_writable(self._path, inputs=inputs)
        if cache is not None:
            require_outside(Path(cache), inputs)
        self._cache = Cache.off() if cache is None else Cache(Path(cache))
        self._history = History(None if self._path is None else _state_of(self._path))
        self._asked: Asked | None = None
        self._told: set[str] = set()
        self._resume_at: int | None = None
        self.record: Record | None = None

    @property
    def base_path(self) -> Path:
        """The directory of W0."""
        return self._base.source.path

    def resume(self, step: int) -> None:
        """Continue the record of a training that goes on from a checkpoint at `step`; what came later is dropped.

        Where nothing fitting was kept, the record starts anew with the next observation, and the log says so.
        """
        self._resume_at = step

    def begin(self, tensors: Weights, *, adapter: Mapping[str, Any] | None = None, fresh: bool = True) -> Beginning:
        """See to it that there is something to watch, before the first step. Every rank calls this; it may be left out.

        Args:
            tensors, adapter: as in `observe`.
            fresh: whether nothing has been trained yet, so that a few weights are compared with W0.

        Raises:
            UsageError: nothing can be watched, or an expectation can never be judged.
            RunError: the model is not that of W0, or another rank failed.
        """
        ranks = Ranks()
        weights, gather = self._source(tensors, adapter, ranks)

        def look() -> Beginning:
            run, base = self._opened(weights, Point("start", 1, 0.0))
            asked = plan(survey(run, base), self._wanted)
            compared = departures(run.checkpoints[0].source, base.source, list(asked)) if fresh and not adapter else ()
            return Beginning(len(asked), tuple(compared))

        return ranks.together(look, gather)

    def observe(
        self,
        step: int,
        tensors: Weights,
        *,
        adapter: Mapping[str, Any] | None = None,
        name: str | None = None,
        finished: bool = False,
    ) -> Observation:
        """Measure the model as it is. Every rank calls this with the same step.

        Args:
            step: optimizer steps done, at least 1 and more than before.
            tensors: the parameters by the names that the model gives them, whole or as DTensors, which are read one
                at a time before this returns; or a directory with the weights.
            adapter: where `tensors` are those of a LoRA adapter as PEFT saves it: its ``LoraConfig`` as a mapping.
            name: of the checkpoint in the record; by default ``step-N``.
            finished: whether this is the last one, so that every expectation is due.

        Raises:
            UsageError: the step has been observed, or nothing can be watched.
            RunError: the model is not that of W0, or another rank failed.
        """
        ranks = Ranks()
        weights, gather = self._source(tensors, adapter, ranks)
        point = Point(name or f"step-{step}", step, min(1.0, step / self._total_steps))
        return ranks.together(lambda: self._observe(point, weights, finished), gather)

    def _source(self, tensors: Weights, adapter: Mapping[str, Any] | None, ranks: Ranks) -> tuple[WeightSource, Gather]:
        """The weights as rank 0 reads them, and what the others do meanwhile."""
        if isinstance(tensors, str | Path):
            return open_weights(Path(tensors)), lambda _: None
        live = LiveModel(tensors, ranks, config=self._config, path=self._run)
        ranks.agree(list(live.weights.items()), "the names, shapes or formats of their tensors")
        settings = None if adapter is None else lora_settings(adapter, Path("the adapter in training"))
        return live if settings is None else Adapter(live, settings, ()), live.gather

    def _observe(self, point: Point, weights: WeightSource, finished: bool) -> Observation:
        start = time.perf_counter()
        run, base = self._opened(weights, point)
        asked = self._planned(survey(run, base))
        self._require_later(point)
        points = (*self._history.points, point)
        run = replace(run, checkpoints=tuple(_at(run.checkpoints[0], point) for point in points))
        record = survey(run, base)
        step = self._measured(points, asked, run.checkpoints[-1].source, base.source, start)
        self._history.require_continued(step)
        self._history.add(step)
        self._complete(record, asked, base)
        self.record = record
        if self._path is not None:
            write_record(record, self._path)
        judged = [
            judge_so_far(expectation, record, finished=finished, reference=self._reference)
            for expectation in (self._wanted.suite.expectations if self._wanted.suite else ())
        ]
        return self._observation(record, asked, judged, start)

    def _require_later(self, point: Point) -> None:
        done = self._history.points
        if point.step < 1 or (done and point.step <= done[-1].step):
            raise UsageError(
                f"step {point.step} cannot be observed"
                + (f" after step {done[-1].step}" if done else ": steps count from 1")
            )

    def _opened(self, weights: WeightSource, point: Point) -> tuple[Run, BaseModel]:
        """A run of the one checkpoint that there is, and W0, under the same canonical names."""
        checkpoint = Checkpoint(point.name, point.step, point.progress, weights)
        return comparable(Run(self._name, self._run, (checkpoint,), None), self._base)

    def _planned(self, record: Record) -> Asked:
        """What is asked of each weight. At the first observation that is found out, and the history taken up."""
        if self._asked is None:
            self._asked = plan(record, self._wanted)
            if self._resume_at is None:
                self._history.forget()
            else:
                self._take_up(self._resume_at, self._asked)
        return self._asked

    def _take_up(self, step: int, asked: Asked) -> None:
        try:
            self._history.resume(step, signature(asked))
        except RunError as error:
            logger.warning(
                "the record starts anew at step %d: what was kept of the steps before cannot be used: %s", step, error
            )
            self._history.forget()

    def _measured(
        self, points: Sequence[Point], asked: Asked, current: WeightSource, base: WeightSource, start: float
    ) -> Step:
        """The new checkpoint, of as many weights as the budget allows."""
        agenda = Agenda.of(points, set().union(*asked.values()))
        known = self._history.watched
        left_out = self._history.skipped
        names = [name for name in known or asked if name not in left_out]
        seconds = None if self._budget is None else self._budget * (1 if known else HEADROOM)
        followed: dict[str, Followed] = {}
        skipped: dict[str, str] = {}
        for name in names:
            if followed and seconds is not None and time.perf_counter() - start > seconds:
                break
            try:
                followed[name] = follow_weight(
                    name,
                    asked[name],
                    agenda,
                    self._history.kept(name),
                    base=partial(base.read, name),
                    current=partial(current.read, name),
                    device=self._device,
                    memory=self._cache,
                )
            except RunError as error:
                skipped[name] = str(error)
        if not followed:
            raise RunError(f"no weight could be measured, such as {_first(skipped)}")
        return Step(points[-1], signature(asked), followed, skipped)

    def _complete(self, record: Record, asked: Asked, base: BaseModel) -> None:
        """Add the figures of all observations to a record of the weights, and leave out what is not watched."""
        watched, skipped = set(self._history.watched), self._history.skipped
        unwatched = asked.keys() - watched - skipped.keys()
        record.weights = {name: weight for name, weight in record.weights.items() if name not in unwatched}
        record.skipped = dict(sorted({**record.skipped, **skipped}.items()))
        if unwatched:
            record.notes = (
                *record.notes,
                f"measured while training, {len(watched)} of {len(asked)} weights in the {self._budget:g} s that an "
                "observation may take: figures are of these weights alone",
            )
        fill(record, {name: self._history.measured(name) for name in watched}, load_metrics(), str(self._device))
        try:
            require_sound(record, base)
        except RunError as error:
            record.notes = (*record.notes, str(error))
            self._warn(str(error))

    def _observation(self, record: Record, asked: Asked, judged: Sequence[SoFar], start: float) -> Observation:
        settled = [so_far.verdict for so_far in judged if so_far.verdict is not None and so_far.standing == "settled"]
        violations = tuple(verdict for verdict in settled if verdict.outcome == "failed")
        watched = len(self._history.watched)
        seconds = time.perf_counter() - start
        shown = {
            **figures.of_requests(record, self._wanted.requests),
            **figures.of_expectations(record, judged, self._reference),
            f"{figures.PREFIX}seconds": seconds,
            f"{figures.PREFIX}watched_weights": float(watched),
        }
        return Observation(
            step=record.points[-1].step,
            figures=shown,
            violations=violations,
            unjudged=tuple(verdict for verdict in settled if verdict.outcome == "error"),
            stop=bool(violations) and self._on_violation == "stop",
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


def _state_of(record: Path) -> Path:
    """Where observations are kept for a training that is resumed: beside the record."""
    return record.with_name(f"{record.stem}.resume")
