"""Observing any training loop: measured against W0 as it goes, judged as soon as it can be."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from geomcheck.checkpoints import BaseWeights, Checkpoint, Run, WeightSource, comparable, open_base
from geomcheck.checkpoints.formats.adapter import Adapter
from geomcheck.checkpoints.formats.adapter_config import lora_settings
from geomcheck.checkpoints.run import share_done
from geomcheck.diagnosis import Case, Finding
from geomcheck.errors import RunError, UsageError
from geomcheck.files import require_writable
from geomcheck.live.figures import figures_of
from geomcheck.live.loop.alerts import Alert, News
from geomcheck.live.loop.history import History
from geomcheck.live.loop.live_weights import LiveWeights, NamedTensors
from geomcheck.live.loop.measure import Means, complete, measure_step, seen_vectors
from geomcheck.live.loop.plan import Wanted, WeightPlan, WeightsOption, plan
from geomcheck.live.loop.start import departures, require_untrained
from geomcheck.live.ranks import Gather, Ranks
from geomcheck.live.snapshot import Snapshot, found_so_far
from geomcheck.measurement import Cache, require_sound, survey
from geomcheck.measurement.cache import require_outside
from geomcheck.measurement.device import parse_device
from geomcheck.record import Point, Record, Request, read_record, write_record
from geomcheck.suite import Suite, Verdict

logger = logging.getLogger("geomcheck.training")

OnViolation = Literal["warn", "stop"]

Readable = NamedTensors | str | Path
"""Tensors as a training holds them, or a directory with the weights of a checkpoint."""


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Attributes:
        weights: how many will be measured, as far as the budget allows.
        departures: those of a few that are not as in W0; there should be none.
    """

    weights: int
    departures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What came of one observation of the model.

    Attributes:
        figures: what a tracker shows, by name.
        violations: verdicts that no later checkpoint can mend, of expectations of level ``error``.
        unjudged: verdicts on expectations that cannot be judged, as things stand.
        open: names of the expectations that later checkpoints still decide.
        stop: whether the training should stop.
        seconds: how long it took.
        watched, weights: of how many weights figures are known, and of how many they are wanted.
        findings: what is wrong with the training, by the contents of its weights; it never stops for that.
        alerts: what is new since the observation before: findings, violations, verdicts that turned.
    """

    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    violations: tuple[Verdict, ...] = ()
    unjudged: tuple[Verdict, ...] = ()
    open: tuple[str, ...] = ()
    stop: bool = False
    seconds: float = 0.0
    watched: int = 0
    weights: int = 0
    findings: tuple[Finding, ...] = ()
    alerts: tuple[Alert, ...] = ()


class Monitor:
    """Measures a model as it trains, keeps the record, and judges it.

    Use one on every rank of a distributed training, and let every rank `observe`: rank 0 measures and writes, the
    others gather with it.

    Between observations stay, per weight, its channels (K x in numbers) and figures; during one, one weight
    and its W0 are at hand, whatever the size of the model.

    Args:
        base: W0: a directory, a Hub id, or opened.
        suite: what must hold: a file, a shipped name, or loaded.
        metrics: what to measure besides, with default parameters unless given as requests; where neither this nor a
            suite is given, `geomcheck.live.loop.plan.DEFAULT_METRICS`.
        weights: of which weights `metrics` are measured: ``attention``, ``mlp``, ``linear``, ``all``, or globs as in
            a suite.
        total_steps: of the whole training, for its progress.
        record: where the record is written after each observation, and beside it what a resumed training needs.
        run: the directory that the training writes to; nothing is written into it.
        name: of the run, as suites know it; by default the name of its directory.
        reference: a record for ``like: reference``.
        config: the architecture, under the keys of a Hugging Face ``config.json``; by default that of W0.
        budget: seconds that an observation may take. The weights that the first one manages in that time are those
            that are measured from then on.
        on_violation: what an expectation of level ``error`` that no longer can hold comes to.
        device: where to compute: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        cache: a directory for factorizations of W0, so that they are computed once.
        alone: whether this process observes alone in a distributed training, because it holds whole tensors or reads
            checkpoints from disk. Otherwise every rank observes.

    Attributes:
        record: the record so far: on rank 0, once there was an observation.
        base_path: the directory of W0.

    Raises:
        UsageError: no such base, suite or metric; a record inside the run; a figure that a training cannot have.
        SuiteError: the suite is invalid.
    """

    def __init__(
        self,
        base: str | Path | BaseWeights,
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
        alone: bool = False,
    ) -> None:
        if total_steps < 1:
            raise UsageError(f"total_steps is {total_steps}: give the number of steps of the whole training")
        require_sensible(on_violation=on_violation, budget=budget, device=device)
        w0 = base if isinstance(base, BaseWeights) else open_base(base, "base")
        inputs = [("the run", Path(run)), ("W0", w0.source.path)]
        require_untrained(w0, Path(run))
        if record is not None:
            require_writable(Path(record), inputs=inputs)
        if cache is not None:
            require_outside(Path(cache), inputs)
        self.record: Record | None = None
        self.base_path = w0.source.path
        self._wanted = Wanted.of(suite, metrics, weights)
        self._base = w0
        self._run = Path(run)
        self._name = name or self._run.resolve().name
        self._path = None if record is None else Path(record)
        self._history = History(self._path.with_name(f"{self._path.stem}.resume") if self._path else None)
        self._total_steps = total_steps
        self._reference = reference if isinstance(reference, Record | None) else read_record(reference)
        self._config = dict(config or {})
        self._stops = on_violation == "stop"
        known = Cache.off() if cache is None else Cache(Path(cache), tell=logger.warning)
        self._means = Means(parse_device(device), known, budget)
        self._alone = alone
        self._resume_at: int | None = None
        self._plan: WeightPlan | None = None
        self._warned: set[str] = set()
        self._news = News()

    def resume(self, step: int) -> None:
        """Continue the record of a training that goes on from a checkpoint at `step`; what came later is dropped.

        Where nothing fitting was kept, the record starts anew with the next observation, and the log says so.
        """
        self._resume_at = step

    def begin(self, tensors: Readable, *, adapter: Mapping[str, Any] | None = None, fresh: bool = True) -> Beginning:
        """Make sure that there is something to measure. Every rank calls this before the first step, or none does.

        Args:
            tensors, adapter: as in `observe`.
            fresh: whether nothing has been trained yet, so that a few weights are compared with W0.

        Raises:
            UsageError: nothing can be measured, or an expectation can never be judged.
            RunError: the model is not that of W0, or another rank failed.
        """
        ranks = Ranks(alone=self._alone)
        weights, gather = self._source(tensors, adapter, ranks)
        return ranks.together(lambda: self._begin(weights, compare=fresh and adapter is None), gather)

    def observe(
        self,
        step: int,
        tensors: Readable,
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
            UsageError: the step has been observed, or nothing can be measured.
            RunError: the model is not that of W0, or another rank failed.
        """
        ranks = Ranks(alone=self._alone)
        weights, gather = self._source(tensors, adapter, ranks)
        point = Point(name or f"step-{step}", step, share_done(step, self._total_steps))
        return ranks.together(lambda: self._observe(point, weights, finished=finished), gather)

    def _source(
        self, tensors: Readable, adapter: Mapping[str, Any] | None, ranks: Ranks
    ) -> tuple[WeightSource, Gather]:
        """The weights as rank 0 reads them, and what the others do meanwhile."""
        if isinstance(tensors, str | Path):
            if not Path(tensors).is_dir():
                raise UsageError(f"{tensors} is not a directory with the weights of a checkpoint")
            return open_base(tensors, "the checkpoint").source, lambda _: None
        live = ranks.all_do(lambda: LiveWeights(tensors, ranks, config=self._config, path=self._run))
        ranks.agree(list(live.weights.items()), "the names, shapes or formats of their tensors")
        settings = None if adapter is None else lora_settings(adapter, Path("the adapter in training"))
        return live if settings is None else Adapter(live, settings, ()), live.gather

    # ---- on rank 0

    def _begin(self, weights: WeightSource, *, compare: bool) -> Beginning:
        run, base = self._opened(weights, Point("start", 1, 0.0))
        asked = plan(survey(run, base), self._wanted)
        off = departures(run.checkpoints[0].source, base.source, list(asked)) if compare else ()
        return Beginning(len(asked), tuple(off))

    def _observe(self, point: Point, weights: WeightSource, *, finished: bool) -> Observation:
        """Measure the weights as they are at `point`, write the record, and judge what is known by now."""
        began = time.perf_counter()
        run, base = self._opened(weights, point)
        asked = self._planned(survey(run, base))
        self._history.require_later(point)
        now, points = run.checkpoints[0], (*self._history.points, point)
        so_far = tuple(replace(now, name=p.name, step=p.step, progress=p.progress) for p in points)
        record = survey(replace(run, checkpoints=so_far), base)
        step = measure_step(
            point, self._history, asked, record.skipped, now.source, base.source, self._means, began=began
        )
        self._history.add(replace(step, vectors=seen_vectors(record, now.source, base.source)))
        complete(record, self._history, asked, self._means)
        self._check(record, base)
        self.record = record
        if self._path is not None:
            write_record(record, self._path)
        suites = [self._wanted.suite] if self._wanted.suite else []
        found = Snapshot.take(suites, record, finished=finished, planned=self._total_steps, reference=self._reference)
        wrong = found_so_far(lambda: Case(record), logger.warning)
        seconds, watched = time.perf_counter() - began, len(self._history.observed)
        violations = found.settled("failed")
        stop = bool(violations) and self._stops
        return Observation(
            step=point.step,
            figures=figures_of(found, self._wanted.requests, seconds=seconds, watched_weights=float(watched)),
            violations=tuple(entry.verdict for entry in violations if entry.verdict),
            unjudged=tuple(entry.verdict for entry in found.settled("error") if entry.verdict),
            open=tuple(entry.due.expectation.id for entry in found.open),
            stop=stop,
            seconds=seconds,
            watched=watched,
            findings=wrong,
            alerts=tuple(self._news.of(point.step, found, wrong, stops=stop)),
            weights=len(asked),
        )

    def _opened(self, weights: WeightSource, point: Point) -> tuple[Run, BaseWeights]:
        """A run of the one checkpoint that there is, and W0, under the same canonical names."""
        checkpoint = Checkpoint(point.name, point.step, point.progress, weights)
        return comparable(Run(self._name, self._run, (checkpoint,), None), self._base)

    def _planned(self, record: Record) -> WeightPlan:
        """What is asked of each weight; the first observation makes this plan, and resumes the history with it."""
        if self._plan is None:
            self._plan = plan(record, self._wanted)
            self._history.resume(self._resume_at, self._plan, total_steps=self._total_steps)
        return self._plan

    def _check(self, record: Record, base: BaseWeights) -> None:
        """Where the figures contradict a sound training, note and log why; training goes on."""
        try:
            require_sound(record, base)
        except RunError as error:
            record.notes += (str(error),)
            if str(error) not in self._warned:
                self._warned.add(str(error))
                logger.warning(str(error))


def require_sensible(*, on_violation: str, budget: float | None, device: str) -> None:
    """Raise UsageError where an option has no meaning."""
    if on_violation not in ("warn", "stop"):
        raise UsageError(f"on_violation is {on_violation!r}; allowed: 'warn', 'stop'")
    if budget is not None and not budget > 0:
        raise UsageError(f"budget is {budget}: give seconds per observation, or None for no bound")
    parse_device(device)
