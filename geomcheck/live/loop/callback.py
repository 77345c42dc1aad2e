"""Observing a training by transformers' Trainer, or one of TRL's: its geometry goes to its trackers."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

from geomcheck.checkpoints import BaseWeights, open_base
from geomcheck.errors import RunError, UsageError
from geomcheck.live.loop.alerts import send
from geomcheck.live.loop.live_weights import LiveWeights
from geomcheck.live.loop.monitor import Monitor, Observation, OnViolation, require_sensible
from geomcheck.live.loop.parameters import Parameters, parameters_of
from geomcheck.live.loop.plan import Wanted, WeightsOption
from geomcheck.live.loop.start import named_base, start_base, write_start
from geomcheck.live.ranks import Ranks
from geomcheck.record import Record, Request, read_record
from geomcheck.suite import Suite

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise ImportError(
        "geomcheck.training.GeometryCallback needs transformers (pip install transformers); "
        "geomcheck.training.Monitor does not, and serves any loop"
    ) from error

logger = logging.getLogger("geomcheck.training")

START = "start"

H = TypeVar("H", bound=Callable[..., Any])


def _harmless(hook: H) -> H:
    """A hook whose failure is a warning: training goes on."""

    @wraps(hook)
    def guarded(self: GeometryCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, args, state, control, **kwargs)
        except Exception as error:
            self._failed(f"step {state.global_step}", error)
            return control

    return guarded  # type: ignore[return-value]


class GeometryCallback(TrainerCallback):
    """Measures the model at each save against W0, logs the figures as ``geom/...``, keeps the record, and judges it.

    Whatever reports the training's loss reports the figures too. A failure of this callback is a warning in the log,
    never the end of a training. In a distributed training every rank needs it, as the Trainer has it anyway.

    Args:
        suite: what must hold: a file, a shipped name, or loaded.
        base: W0: a directory or a Hub id; ``"start"``: the weights at the start of the training, which are written
            down beside the run; by default what the model was loaded from, if that is on this machine.
        metrics, weights, reference, budget, device, cache: see `Monitor`.
        every: observe every so many steps and at the last, from the live parameters, instead of at each save.
        on_violation: ``stop`` ends the training when an expectation of level ``error`` can no longer hold; ``warn``
            says so in the log.
        record: where the record is written; by default beside the output directory, with the ending
            ``.geometry.parquet``.
        trainer: the trainer, where it cannot be found from its calls.

    Raises:
        UsageError: no such suite or metric, an option without meaning, or figures that a training cannot have.
        SuiteError: the suite is invalid.
        RecordError: `reference` is no record.
    """

    def __init__(
        self,
        suite: str | Path | Suite | None = None,
        *,
        base: str | Path | None = None,
        metrics: Sequence[str | Request] | None = None,
        weights: WeightsOption = None,
        every: int | None = None,
        budget: float | None = None,
        on_violation: OnViolation = "warn",
        record: str | Path | None = None,
        reference: str | Path | Record | None = None,
        device: str = "cpu",
        cache: str | Path | None = None,
        trainer: Trainer | None = None,
    ) -> None:
        if every is not None and (type(every) is not int or every < 1):
            raise UsageError(f"every is {every!r}: give a whole number of steps, or None to observe at each save")
        require_sensible(on_violation=on_violation, budget=budget, device=device)
        wanted = Wanted.of(suite, metrics, weights)
        self._new_monitor = partial(
            Monitor,
            suite=wanted.suite,
            metrics=wanted.requests,
            weights=wanted.weights,
            budget=budget,
            on_violation=on_violation,
            reference=reference if isinstance(reference, Record | None) else read_record(reference),
            device=device,
            cache=cache,
        )
        self._base = base
        self._every = every
        self._record = record
        self._trainer = None if trainer is None else weakref.ref(trainer)
        self._monitor: Monitor | None = None
        self._record_path: Path | None = None
        self._seen: Observation | None = None
        self._begun_at = self._observed = 0
        self._warned: set[str] = set()

    @property
    def record(self) -> Record | None:
        """The record so far, on rank 0."""
        return self._monitor.record if self._monitor else None

    @_harmless
    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the trainer, whose way of logging reaches every tracker."""
        self._find_trainer()

    @_harmless
    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Find W0, and make sure that there is something to measure."""
        self._monitor, self._record_path, self._seen = None, None, None
        self._begun_at = self._observed = state.global_step
        try:
            self._monitor = self._begun(args, state, model)
        except Exception as error:
            self._failed("the geometry of this training is not watched", error, level=logging.ERROR)

    @_harmless
    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        """Observe the model, where that is asked for every so many steps."""
        step = state.global_step
        if self._every is not None and (step % self._every == 0 or step >= state.max_steps):
            self._observe(args, state, control, model, f"step-{step}")
        return control

    @_harmless
    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        """Observe the model that has just been saved."""
        if self._every is None:
            self._observe(args, state, control, model, f"checkpoint-{state.global_step}")
        return control

    @_harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say what was never judged, because the training ended early or was not observed in the end."""
        if self._monitor is None or not Ranks().leads:
            return
        if self._seen is None and state.global_step > self._begun_at:
            self._warn_once("the training ended before it was observed once: nothing was measured, nothing judged")
        elif self._seen is not None and self._seen.open:
            self._warn_once(
                f"the training ended at step {state.global_step} of {state.max_steps}, observed last at step "
                f"{self._seen.step}: {', '.join(self._seen.open)} not judged to the end. Gate what there is with "
                f"pytest --geom-run={self._record_path}"
            )

    def _begun(self, args: Any, state: Any, model: Any) -> Monitor:
        ranks = Ranks()
        held = ranks.all_do(lambda: parameters_of(model))
        run = Path(args.output_dir).resolve()
        record = Path(self._record) if self._record else run.with_name(f"{run.name}.geometry.parquet")
        self._record_path = self._own(record.resolve())
        base = self._w0(held, run.with_name(f"{run.name}.geometry.start"), state, ranks)
        monitor = ranks.all_do(
            lambda: self._new_monitor(base, total_steps=state.max_steps, record=record, run=run, config=held.config)
        )
        if state.global_step:
            monitor.resume(state.global_step)
        begun = monitor.begin(held.tensors, adapter=held.adapter, fresh=not state.global_step)
        if ranks.leads:
            w0 = monitor.base_path
            logger.info("geometry: %d weights are watched against W0 (%s), in %s", begun.weights, w0, record)
            if begun.departures:
                self._warn_once(
                    f"the model does not start from W0 ({w0}): {', '.join(begun.departures)} differ before the first "
                    "step, so every figure will describe that difference too. Give the weights that this training "
                    "starts from, or base='start'"
                )
        return monitor

    def _own(self, record: Path) -> Path:
        """`record`, unless another callback of this training writes its own there: each would overwrite the other's."""
        trainer = self._find_trainer()
        others = trainer.callback_handler.callbacks if trainer else []
        if any(isinstance(c, GeometryCallback) and c is not self and c._record_path == record for c in others):
            raise UsageError(f"two callbacks keep their record in {record}; give one of them another, with record=PATH")
        return record

    def _w0(self, held: Parameters, directory: Path, state: Any, ranks: Ranks) -> BaseWeights:
        given = self._base
        if given is None:
            return ranks.all_do(lambda: named_base(held.base, held.revision))
        if given != START:
            return ranks.all_do(lambda: open_base(given, "base"))
        if held.adapter is not None:
            raise UsageError("base='start' is of whole models; under an adapter, W0 is the model that it adapts")
        if not state.global_step:
            live = LiveWeights(held.tensors, ranks, config=held.config, path=directory)
            ranks.together(lambda: str(write_start(live, directory).source.path), live.gather)
        return ranks.all_do(lambda: start_base(directory))

    def _observe(self, args: Any, state: Any, control: Any, model: Any, name: str) -> None:
        monitor, step = self._monitor, state.global_step
        if monitor is None or step <= self._observed:
            return
        self._observed = step
        held = Ranks().all_do(lambda: parameters_of(model))
        finished = step >= state.max_steps
        self._seen = monitor.observe(step, held.tensors, adapter=held.adapter, name=name, finished=finished)
        control.should_training_stop |= self._seen.stop
        if Ranks().leads:
            self._report(self._seen)
        self._track(step, partial(self._log, state, control, self._seen.figures))
        for alert in self._seen.alerts if Ranks().leads else ():
            for tracker in args.report_to:
                self._track(step, partial(send, alert, tracker))

    def _track(self, step: int, act: Callable[[], None]) -> None:
        """Do something with a tracker: what fails there is a warning, and keeps nothing from the others."""
        try:
            act()
        except Exception as error:
            self._failed(f"step {step}: not in the tracker", error)

    def _log(self, state: Any, control: Any, figures: Mapping[str, float]) -> None:
        """Log with Trainer's own method: overriding ones, as TRL's, would also log and reset what they average."""
        trainer = self._find_trainer()
        if trainer is None:
            state.log_history.append({**figures, "epoch": state.epoch, "step": state.global_step})
            self._warn_once("the trainer was not found: figures are in its state and in the record, but in no tracker")
            return
        due = control.should_log
        try:
            Trainer.log(trainer, dict(figures))
        finally:
            control.should_log = due  # logging clears it, and the training's own log may still be due

    def _report(self, seen: Observation) -> None:
        partly = f"{seen.watched} of {seen.weights} weights"
        logger.info("geometry at step %d: %s in %.2f s", seen.step, partly, seen.seconds)
        if seen.watched < seen.weights:
            self._warn_once(f"the geometry of {partly} is watched: no more can be measured in the budget")
        for alert in seen.alerts:
            level = logging.INFO if alert.level == "info" else logging.WARNING
            logger.log(level, "geometry: %s%s", alert.title, f"\n{alert.text}" if alert.text else "")

    def _find_trainer(self) -> Trainer | None:
        if self._trainer is None and (found := _calling_trainer(self)) is not None:
            self._trainer = weakref.ref(found)
        return self._trainer() if self._trainer else None

    def _failed(self, what: str, error: Exception, *, level: int = logging.WARNING) -> None:
        text = f"{type(error).__name__}: {error}"
        trace = not isinstance(error, RunError | UsageError)
        self._warn_once(f"{what}: {text}; training goes on", key=text, level=level, trace=trace)

    def _warn_once(
        self, text: str, *, key: str | None = None, level: int = logging.WARNING, trace: bool = False
    ) -> None:
        if (key or text) not in self._warned:
            self._warned.add(key or text)
            logger.log(level, "geometry: %s", text, exc_info=trace)


def _calling_trainer(callback: GeometryCallback) -> Trainer | None:
    """The Trainer that calls `callback`: it hands itself to none of them."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer) and callback in owner.callback_handler.callbacks:
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None
