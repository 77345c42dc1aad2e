"""Hold a good run with defects against a suite: only the weights that a defect touches are measured again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property

from geomcheck.checkpoints import BaseWeights, Run
from geomcheck.checkpoints.changes import Added
from geomcheck.defects.defect import NotApplicable, Spoiling, Subject
from geomcheck.defects.operations import Operation
from geomcheck.defects.spoiled import GoodRun
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError
from geomcheck.measurement import Resources, require_sound
from geomcheck.measurement.execute import fill, numbered, tasks_of
from geomcheck.measurement.machine import processors
from geomcheck.measurement.measured import W0, Measured, Snapshot
from geomcheck.measurement.task import DigestWeight, MeasureWeight, NotEnoughMemory, Sources, Task
from geomcheck.record import Plan, Record, Request
from geomcheck.suite import Suite, Verdict

Key = tuple[str, Operation | None, Operation | None]
"""A weight, what is done to it at the checkpoints, and in W0."""


class Bench:
    """A good run that was measured, and what a suite says of it with defects.

    What was measured of a weight under an operation is known from then on. Nothing of it is remembered beyond this
    object: a cache keeps figures by the files that the weights lie in, and these hold the good run. Of the cache, only
    factorizations of a W0 that nothing is done to are used.

    Args:
        run, base: comparable.
        record: of the run, with every figure that the `suite` needs.
        digests: of everything that was read for it.
        plan: what was measured for it.
        tell: gets the entries of weights that were measured again.
    """

    def __init__(
        self,
        suite: Suite,
        run: Run,
        base: BaseWeights,
        record: Record,
        plan: Plan,
        digests: Mapping[Snapshot, Mapping[str, str]],
        resources: Resources,
        tell: Callable[[int], None] = lambda entries: None,
    ) -> None:
        self.suite, self.record, self.tell = suite, record, tell
        self._good, self._resources = GoodRun(run, base), resources
        self._clean = Sources(run, base)
        self._digests = digests
        self._metrics = load_metrics()
        self._tasks = {task.name: task for task in tasks_of(record, plan, self._metrics, resources.torch_device)}
        self._found = _found(record, digests)
        self._known: dict[Key, Measured] = {}

    @cached_property
    def subject(self) -> Subject:
        """What defects may look at: the weights of the run that moved."""
        last: Snapshot = ("run", len(self.record.points) - 1)
        before, after = self._digests.get(W0, {}), self._digests.get(last, {})
        still = {name for name, after_ in after.items() if after_ == before.get(name)} | self._still()
        weights = [
            weight
            for name, weight in sorted(self.record.weights.items())
            if name in after and name not in still and name not in self.record.skipped and not weight.lent
        ]
        adapter = any(not _is_tensor(self._good, weight.name) for weight in weights)
        return Subject(weights, len(self.record.points), self._good.run.checkpoints[0].source.config, adapter)

    def _still(self) -> set[str]:
        """The weights that are W0's at the last checkpoint, whatever their formats, as far as that was measured."""
        request = Request.of(self._metrics["frozen_share"], {})
        column = self.record.columns.get((request, "value"))
        step = self.record.points[-1].step
        return (
            {name for (at, name), figure in column.figures.items() if at == step and figure.value == 1}
            if column
            else set()
        )

    def spoiling(self, spoil: Callable[[Subject], Spoiling]) -> Spoiling:
        """What a defect does to this run. Raises NotApplicable."""
        spoiling = spoil(self.subject)
        operations = (*spoiling.operations.values(), *spoiling.to_w0.values())
        if self.subject.adapter and not all(operation.of_factors for operation in operations):
            raise NotApplicable("the run holds an adapter, to whose factors it cannot be done")
        return spoiling

    def entries(self, spoilings: Iterable[Spoiling]) -> int:
        """Entries of weights to measure, by which time is estimated."""
        return sum(self._tasks[name].numel for one in spoilings for name in one.names if name in self._tasks)

    def seconds(self, spoilings: Sequence[Spoiling]) -> float:
        """About how long `judge` will take for all of these, from the time that one weight of average size takes."""
        tasks = sorted((self._tasks[n] for one in spoilings for n in one.names if n in self._tasks), key=_size)
        if not tasks:
            return 0.0
        self._time(spoilings, tasks[0].name)  # what is first measured takes longer
        sample = tasks[len(tasks) // 2]
        each = self._time(spoilings, sample.name) / sample.numel
        workers = self._resources.workers if isinstance(self._resources.workers, int) else processors()
        return each * sum(task.numel for task in tasks) / max(1, workers)

    def _time(self, spoilings: Sequence[Spoiling], name: str) -> float:
        """Seconds that it takes to measure one weight with the last of these defects that touches it."""
        spoiling = next(one for one in reversed(spoilings) if name in one.names)
        part = Spoiling(_only(spoiling.operations, name), _only(spoiling.to_w0, name))
        started = time.perf_counter()
        self._measure(part, entries=False)
        return time.perf_counter() - started

    def judge(self, spoiling: Spoiling) -> list[Verdict] | str:
        """The verdicts of the suite on the run with a defect; or why the run is refused before there are any. Raises
        NotApplicable where the defect changes nothing."""
        run, base = self._good.spoiled(spoiling)
        sources = Sources(run, base)
        try:
            self._require_factors(run)
            for entries in (True, False):
                found = self._found | self._measure(spoiling, entries=entries)
                record = self._record(found)
                digests = {snapshot: dict(held) for snapshot, held in self._digests.items()}
                for name in spoiling.names:
                    for snapshot, digest in found[name].digests.items():
                        digests.setdefault(snapshot, {})[name] = digest
                if digests == self._digests:
                    raise NotApplicable("it changes nothing here")
                require_sound(record, base, digests)
        except RunError as error:
            return str(error)
        record.contents = numbered(record, sources, digests)
        return self.suite.evaluate(record)

    def _require_factors(self, run: Run) -> None:
        """Refuse a checkpoint with factors that all come to nothing, as the reader of adapters does."""
        for checkpoint in run.checkpoints if self.subject.adapter else ():
            changes = (checkpoint.source.read(weight.name) for weight in self.subject.weights)
            if all(isinstance(change, Added) and not change.left.any() for change in changes):
                raise RunError(f"{checkpoint.name}: every factor comes to nothing: the adapter has not been trained")

    def _measure(self, spoiling: Spoiling, *, entries: bool) -> dict[str, Measured]:
        """What is found of the weights that a defect touches; the part of it that only compares `entries`, or all.
        Raises RunError."""
        run, base = self._good.spoiled(spoiling)
        memory = None if spoiling.to_w0 else self._resources.cache
        sources = Sources(run, base, memory=memory)
        keys = {n: (n, spoiling.operations.get(n), spoiling.to_w0.get(n)) for n in spoiling.names}
        held = {name: self._known.setdefault(key, Measured()) for name, key in keys.items()}
        todo: list[Task] = []
        for name in sorted(held):
            task = self._tasks.get(name)
            if task is None and not held[name].digests:
                at = [s for s, known in self._digests.items() if name in known]
                todo.append(DigestWeight(name, self.record.weights[name].numel, at))
            elif task is not None and (left := task.without(held[name].answers)) is not None:
                part = left.of_entries() if entries else left
                todo += [part] if part is not None else []
        todo.sort(key=lambda task: (-task.numel, task.name))
        with closing(self._resources.execute(todo, sources)) as outcomes:
            for done, outcome in outcomes:
                if isinstance(outcome, NotEnoughMemory):
                    raise outcome
                if isinstance(outcome, RunError):
                    raise RunError(f"{done.name} cannot be measured: {outcome}") from outcome
                held[done.name].update(outcome)
                if isinstance(done, MeasureWeight) and self._tasks[done.name].without(held[done.name].answers) is None:
                    self.tell(done.numel)
        self._clean.require_unchanged()
        return held

    def _record(self, found: Mapping[str, Measured]) -> Record:
        """The record of these figures."""
        record = replace(self.record, columns={}, fingerprints={}, w0={}, contents={}, versions={})
        fill(record, {name: found[name] for name in self._tasks}, self._metrics, self.record.device)
        return record


def _found(record: Record, digests: Mapping[Snapshot, Mapping[str, str]]) -> dict[str, Measured]:
    """What a record holds of each weight."""
    found = {name: Measured() for name in record.weights}
    index = {point.step: at for at, point in enumerate(record.points)}
    for (request, stat), column in record.columns.items():
        for (step, name), figure in column.figures.items():
            answers = found[name].answers
            if figure.value is None:
                answers[index[step], request] = str(figure.undefined)
            else:
                answer = answers.setdefault((index[step], request), {})
                assert isinstance(answer, dict)
                answer[stat] = figure.value
    for snapshot, held in digests.items():
        for name, digest in held.items():
            found[name].digests[snapshot] = digest
    kept = record.sketches
    for step, code, values in zip(kept.steps.tolist(), kept.codes.tolist(), kept.values, strict=True):
        found[kept.names[code]].sketches[index[step]] = values.astype("<f2").tobytes()
    return found


def _is_tensor(good: GoodRun, name: str) -> bool:
    return hasattr(good.read(name, 0), "dtype")


def _only(operations: Mapping[str, Operation], name: str) -> dict[str, Operation]:
    return {name: operations[name]} if name in operations else {}


def _size(task: MeasureWeight) -> tuple[int, str]:
    return task.numel, task.name
