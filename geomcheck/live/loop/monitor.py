"""Watching the geometry of any training loop: measured against W0 as it goes, judged as soon as it can be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from geomcheck.checkpoints import BaseWeights, WeightSource, open_base
from geomcheck.checkpoints.discovery.steps import is_step
from geomcheck.checkpoints.formats.adapter import Adapter
from geomcheck.checkpoints.formats.adapter_config import lora_settings
from geomcheck.checkpoints.run import share_done
from geomcheck.errors import UsageError
from geomcheck.files import require_writable
from geomcheck.live.loop.history import History
from geomcheck.live.loop.model import LiveModel, NamedTensors
from geomcheck.live.loop.observation import Beginning, Observation
from geomcheck.live.loop.plan import Wanted, WeightsOption
from geomcheck.live.loop.ranks import Gather, Ranks
from geomcheck.live.loop.watch import Watch, logger
from geomcheck.measurement import Cache
from geomcheck.measurement.cache import require_outside
from geomcheck.measurement.device import parse_device
from geomcheck.record import Point, Record, Request, read_record
from geomcheck.suite import Suite

_STEP_0 = re.compile(r"(?<![0-9])0+$")

OnViolation = Literal["warn", "stop"]

Weights = NamedTensors | str | Path


class Monitor:
    """Measures a model as it trains, keeps the record, and judges it.

    Use one on every rank of a distributed training, and let every rank `observe`: rank 0 measures and writes, the
    others gather with it.

    Between observations stay, per watched weight, its channels (K x in numbers) and figures; during one, one weight
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
            that are watched.
        on_violation: what an expectation of level ``error`` that no longer can hold comes to.
        device: where to compute: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        cache: a directory for factorizations of W0, so that they are computed once.
        alone: whether this process watches alone in a distributed training, because it holds whole tensors or reads
            checkpoints from disk. Otherwise every rank observes.

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
        self._alone = alone
        self._total_steps = total_steps
        self._config = dict(config or {})
        run, path = Path(run), None if record is None else Path(record)
        w0 = base if isinstance(base, BaseWeights) else open_base(base, "base")
        inputs = [("the run", run), ("W0", w0.source.path)]
        _require_untrained(w0, run)
        if path is not None:
            require_writable(path, inputs=inputs)
        if cache is not None:
            require_outside(Path(cache), inputs)
        self._watch = Watch(
            wanted=Wanted.of(suite, metrics, weights),
            base=w0,
            run=run,
            name=name or run.resolve().name,
            path=path,
            history=History(None if path is None else _state_of(path)),
            total_steps=total_steps,
            reference=reference if isinstance(reference, Record | None) else read_record(reference),
            budget=budget,
            stops=on_violation == "stop",
            device=parse_device(device),
            cache=Cache.off() if cache is None else Cache(Path(cache), tell=logger.warning),
        )

    @property
    def record(self) -> Record | None:
        """The record so far: on rank 0, once there was an observation."""
        return self._watch.record

    @property
    def base_path(self) -> Path:
        """The directory of W0."""
        return self._watch.base.source.path

    def resume(self, step: int) -> None:
        """Continue the record of a training that goes on from a checkpoint at `step`; what came later is dropped.

        Where nothing fitting was kept, the record starts anew with the next observation, and the log says so.
        """
        self._watch.resume_at = step

    def begin(self, tensors: Weights, *, adapter: Mapping[str, Any] | None = None, fresh: bool = True) -> Beginning:
        """See to it that there is something to watch, before the first step. Every rank calls this; it may be left out.

        Args:
            tensors, adapter: as in `observe`.
            fresh: whether nothing has been trained yet, so that a few weights are compared with W0.

        Raises:
            UsageError: nothing can be watched, or an expectation can never be judged.
            RunError: the model is not that of W0, or another rank failed.
        """
        ranks = Ranks(alone=self._alone)
        weights, gather = self._source(tensors, adapter, ranks)

        compare = fresh and adapter is None
        return ranks.together(lambda: self._watch.begin(weights, compare=compare), gather)

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
        ranks = Ranks(alone=self._alone)
        weights, gather = self._source(tensors, adapter, ranks)
        point = Point(name or f"step-{step}", step, share_done(step, self._total_steps))
        return ranks.together(lambda: self._watch.observe(point, weights, finished=finished), gather)

    def _source(self, tensors: Weights, adapter: Mapping[str, Any] | None, ranks: Ranks) -> tuple[WeightSource, Gather]:
        """The weights as rank 0 reads them, and what the others do meanwhile."""
        if isinstance(tensors, str | Path):
            if not Path(tensors).is_dir():
                raise UsageError(f"{tensors} is not a directory with the weights of a checkpoint")
            return open_base(tensors, "the checkpoint").source, lambda _: None
        live = ranks.all_do(lambda: LiveModel(tensors, ranks, config=self._config, path=self._watch.run))
        ranks.agree(list(live.weights.items()), "the names, shapes or formats of their tensors")
        settings = None if adapter is None else lora_settings(adapter, Path("the adapter in training"))
        return live if settings is None else Adapter(live, settings, ()), live.gather


def require_sensible(*, on_violation: str, budget: float | None, device: str) -> None:
    """Raise UsageError where an option has no meaning."""
    if on_violation not in ("warn", "stop"):
        raise UsageError(f"on_violation is {on_violation!r}; allowed: 'warn', 'stop'")
    if budget is not None and not budget > 0:
        raise UsageError(f"budget is {budget}: give seconds per observation, or None for no bound")
    parse_device(device)


def _require_untrained(base: BaseWeights, run: Path) -> None:
    """Refuse a checkpoint of the run itself as W0: a model that is resumed is often loaded from there."""
    where = base.source.path.resolve()
    if where.is_relative_to(run.resolve()) and is_step(where) and not _STEP_0.search(where.name):
        raise UsageError(
            f"W0 ({base.source.path}, {base.how}) is a checkpoint of the training that is watched; give base=PATH, the "
            "weights that it started from"
        )


def _state_of(record: Path) -> Path:
    """Where observations are kept for a training that is resumed: beside the record."""
    return record.with_name(f"{record.stem}.resume")
