"""A Ray cluster on which only the time is not real: our scheduler sends it tasks, and each takes what it took here.

Stands where ``import ray`` finds the library, with as much of its interface as `run_on_ray` takes. A task goes to the
processor that is free first, in the order in which tasks were sent, as Ray does where memory is no limit; what it
"finds" is what a task of the same shape found here, spread a little.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from geomcheck.measurement.executors.opening import Opening, opened
from geomcheck.measurement.measured import W0, Answer, Measured, Snapshot
from geomcheck.measurement.task import DigestWeight, Outcome, Task

Work = Callable[[Task, Opening], Outcome]
"""What a worker does with a task."""

LARGE = 2**20
"""Entries from which on the time of a task tells what an entry costs."""

SPREAD = 0.1
"""Standard deviation of the logarithm of a figure over the weights of one shape."""


@dataclass(frozen=True)
class Cost:
    """What one task took here.

    Attributes:
        seconds: of one thread, reading from memory included.
        measured: what it found.
    """

    seconds: float
    measured: Measured


@dataclass(frozen=True)
class Costs:
    """What tasks cost, from those that were done here.

    Attributes:
        entries, rest: of a weight's two parts, what compares entries and what factorizes, by shape.
        digest: seconds per entry that is only read and digested.
        start: seconds until a worker is ready for its first task, which imports the package and opens the run.
        task: seconds that Ray itself takes for a task.
    """

    entries: Mapping[tuple[int, ...], Cost]
    rest: Mapping[tuple[int, ...], Cost]
    digest: float
    start: float
    task: float

    def of(self, task: Task) -> Cost:
        """What `task` costs: of a shape that was not done here, by the entries of the one that is next in size."""
        if isinstance(task, DigestWeight):
            return Cost(self.digest * task.numel * len(task.snapshots), Measured())
        of_part = self.entries if task.of_entries() == task else self.rest
        near = min(of_part, key=lambda shape: (shape != task.shape, abs(math.log(math.prod(shape) / task.numel))))
        known = of_part[near]
        return Cost(known.seconds * task.numel / math.prod(near), known.measured)


@dataclass(eq=False)
class Sent:
    """A task that was sent, when it is done, and what comes of it."""

    done: float
    outcome: Callable[[], Outcome]


@dataclass
class Tally:
    """What a session takes: seconds until its last task is done, those of all processors, tasks, and bytes read."""

    wall: float = 0.0
    processors: float = 0.0
    tasks: int = 0
    bytes: int = 0


class FewerRays:
    """As much of the library as `run_on_ray` takes; who inherits says what sending a task comes to."""

    workers = 1

    def __init__(self) -> None:
        self.tally = Tally()

    def send(self, work: Work, task: Task, opening: Opening) -> Sent:
        """Take a task that is to be done by `work`."""
        raise NotImplementedError

    def module(self) -> ModuleType:
        """What ``import ray`` is to find."""
        ray: Any = ModuleType("ray")
        ray.exceptions = ModuleType("ray.exceptions")
        ray.exceptions.RayError = type("RayError", (Exception,), {})
        ray.exceptions.RayTaskError = type("RayTaskError", (ray.exceptions.RayError,), {})
        ray.is_initialized = lambda: True
        ray.nodes = lambda: [{"Alive": True, "Resources": {"memory": math.inf}}]
        ray.cluster_resources = lambda: {"CPU": self.workers}
        ray.remote = lambda **_: lambda work: _Remote(partial(self.send, work))
        ray.wait, ray.get, ray.cancel = self._wait, lambda sent: sent.outcome(), lambda sent: None
        return ray  # type: ignore[no-any-return]

    def _wait(self, sent: Sequence[Sent], *, num_returns: int) -> tuple[list[Sent], list[Sent]]:
        assert num_returns == 1
        first = min(sent, key=lambda one: one.done)
        self.tally.wall = max(self.tally.wall, first.done)
        return [first], [one for one in sent if one is not first]


@dataclass(frozen=True)
class _Remote:
    """A remote function."""

    send: Callable[[Task, Opening], Sent]

    def options(self, **_: object) -> _Remote:
        """The same: where memory is no limit, nothing depends on what a task needs."""
        return self

    def remote(self, task: Task, opening: Opening) -> Sent:
        """Send it."""
        return self.send(task, opening)


class Here(FewerRays):
    """Does each task when it is sent, and notes what it took, by its part and shape."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[int, ...], Cost] = {}
        self.rest: dict[tuple[int, ...], Cost] = {}
        self.digest = 0.0

    def send(self, work: Work, task: Task, opening: Opening) -> Sent:
        """Do it."""
        opened(opening)  # a worker does so once
        before = time.process_time()
        outcome = work(task, opening)
        seconds = time.process_time() - before
        if isinstance(outcome, Measured):
            self._note(task, seconds, outcome)
        self.tally.processors += seconds
        return Sent(0.0, lambda: outcome)

    def _note(self, task: Task, seconds: float, found: Measured) -> None:
        if isinstance(task, DigestWeight):
            self.digest = max(self.digest, seconds / task.numel / len(task.snapshots) if task.numel > LARGE else 0.0)
        else:
            (self.entries if task.of_entries() == task else self.rest)[task.shape] = Cost(seconds, found)


class Simulated(FewerRays):
    """A cluster with so many single-threaded `workers`."""

    def __init__(self, workers: int, costs: Costs) -> None:
        super().__init__()
        self.workers, self._costs = workers, costs
        self._free = [costs.start] * workers
        self._chance = np.random.default_rng(0)

    def send(self, work: Work, task: Task, opening: Opening) -> Sent:
        """Let the processor that is free first take it."""
        start, cost = max(self.tally.wall, heapq.heappop(self._free)), self._costs.of(task)
        seconds = cost.seconds + self._costs.task
        heapq.heappush(self._free, start + seconds)
        self.tally.processors += seconds
        self.tally.tasks += 1
        self.tally.bytes += 2 * task.numel * len(_snapshots(task))
        return Sent(start + seconds, partial(self._found, task, cost.measured))

    def _found(self, task: Task, known: Measured) -> Measured:
        digests = {snapshot: f"{task.name} {snapshot}" for snapshot in _snapshots(task)}
        if isinstance(task, DigestWeight):
            return Measured(digests=digests)
        asked = {(index, request) for index, all_ in enumerate(task.requests) for request in all_}
        answers = {key: self._spread(answer) for key, answer in known.answers.items() if key in asked}
        return Measured(answers, digests, known.routes, known.sketches)

    def _spread(self, answer: Answer) -> Answer:
        if isinstance(answer, str):
            return answer
        factor = float(np.exp(SPREAD * self._chance.standard_normal()))
        return {stat: min(1.0, factor * value) if 0 <= value <= 1 else factor * value for stat, value in answer.items()}


def _snapshots(task: Task) -> Sequence[Snapshot]:
    if isinstance(task, DigestWeight):
        return task.snapshots
    return [W0, *(("run", index) for index in range(len(task.points)))]
