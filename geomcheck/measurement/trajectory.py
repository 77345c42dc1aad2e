"""Measure one weight along a run: each checkpoint is read once, and only small results stay in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.checkpoints import Change
from geomcheck.checkpoints.changes import whole
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import Base, Registry, Update
from geomcheck.diagnostics.linalg.lockstep import meet
from geomcheck.diagnostics.locking import top_channel
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.diagnostics.path import Path, path_of
from geomcheck.errors import RunError, Undefined
from geomcheck.measurement.content import digest, require_finite
from geomcheck.measurement.device import on_device
from geomcheck.measurement.itinerary import Itinerary, channels_of
from geomcheck.measurement.measured import REFERENCE_W0, W0, Answer, BaseStates, Measured, Snapshot
from geomcheck.measurement.readahead import reading_ahead
from geomcheck.measurement.soundness import ANOTHER_MODEL
from geomcheck.record import Point, Request, locate
from geomcheck.record.routes import routes_of

CPU = torch.device("cpu")

HELD = 48
"""Bytes per entry that checkpoints may take which are in memory at once: what a factorization takes (see `task`)."""

FEWEST_HELD = 4
"""Checkpoints of a path that are in memory at once, however large: as many as its increments need."""

T = TypeVar("T")

Channel = Tensor | Undefined
BEYOND_RANGE = Undefined("it is beyond the range of float64")


@dataclass(frozen=True)
class WeightFiles:
    """How to read one weight: W0, then each checkpoint, and the same of a reference run if there is one.

    Attributes:
        match: index of the reference's checkpoint at a progress. Raises Undefined.
        reference: the weight at that checkpoint. Raises Undefined.
        reference_base: the weight in the W0 that the reference brings itself; None where it brings none.
    """

    name: str
    base: Callable[[], Tensor | Change]
    checkpoints: Sequence[Callable[[], Tensor | Change]]
    match: Callable[[float], int]
    reference: Callable[[int], Tensor | Change]
    reference_base: Callable[[], Tensor | Change | None] = lambda: None


@dataclass(frozen=True)
class PastCheckpoints:
    """What is kept of the checkpoints of one weight that were measured before.

    Attributes:
        count: how many there are: those of index 0 to count - 1.
        channels: their top-k subspaces by (index, k, side), float64 of shape (dimension, k) on the CPU; or the reason
            why there is none.
        unchanged: indices of those where the weight equalled W0.
    """

    count: int = 0
    channels: Mapping[tuple[int, int, str], Channel] = field(default_factory=dict)
    unchanged: frozenset[int] = frozenset()


NO_PAST = PastCheckpoints()


class Trajectory:
    """The cumulative updates of one weight, one checkpoint at a time.

    All checkpoints share the factorization of W0. Of a checkpoint that has been measured only its channels, of shape
    (in, k), stay in memory, and whether the weight was `unchanged` there; for figures of the `path`, W_t as stored does
    too, as far as `HELD` allows, and others are read again.

    Args:
        memory: factorizations of W0 from earlier sessions.
        past: what is kept of checkpoints that were measured before; they are not visited again.
        keeps_path: whether the `path` will be asked for.
    """

    def __init__(
        self,
        files: WeightFiles,
        points: Sequence[Point],
        device: torch.device = CPU,
        memory: BaseStates | None = None,
        past: PastCheckpoints = NO_PAST,
        *,
        keeps_path: bool = False,
    ) -> None:
        self.files = files
        self.points = points
        self.device = device
        self._memory = memory
        self.digests: dict[Snapshot, str] = {}
        self._w0 = whole(self._read(files.base, W0, "W0"))
        self._is_matrix = describe(files.name, tuple(self._w0.shape)).is_matrix
        self._base_is_zero = _is_zero(self._w0)
        self.base, self._is_known = self._remembered()
        self._visited: tuple[int, Update] | None = None
        self._shares_start: bool | None = None
        self.past = range(past.count)
        self.unchanged: set[int] = set(past.unchanged)
        self._channels = {key: _moved_to(device, channel) for key, channel in past.channels.items()}
        self._keeps_path = keeps_path
        self._held: dict[int, Tensor | LowRank] = {}

    @property
    def kept(self) -> PastCheckpoints:
        """What a later measurement of the same weight needs of these checkpoints."""
        channels = {key: _moved_to(CPU, channel) for key, channel in self._channels.items()}
        return PastCheckpoints(len(self.points), channels, frozenset(self.unchanged))

    def remember(self) -> None:
        """Store the factorization of W0 for other runs that start from it."""
        state = self.base.state()
        if self._memory is not None and state and not self._is_known:
            self._memory.keep_base_state(self.digests[W0], {name: tensor.cpu() for name, tensor in state.items()})

    def _remembered(self) -> tuple[Base, bool]:
        """W0 on the device, and whether with its factorization from memory; one that is not W0's is as good as none."""
        w0 = on_device(self._w0, self.device)
        if self._memory is not None:
            stored = self._memory.base_state(self.digests[W0], max_bytes=Base.state_bytes(w0.shape))
            with suppress(RunError):
                if stored:
                    return Base.from_state(w0, {name: on_device(t, self.device) for name, t in stored.items()}), True
        return Base(w0), False

    def visit(self, index: int) -> Update:
        """The update at checkpoint `index`, which stays in memory until the next visit."""
        self._visited = None  # one checkpoint in memory at a time
        update = self.update(index)
        if update.is_zero:
            self.unchanged.add(index)
        if self._keeps_path and len(self.points) < self._most_held(update.stored):
            self._held[index] = update.stored
        self._visited = index, update
        return update

    def revisit(self, index: int) -> Update:
        """The update at a checkpoint that was visited before."""
        self._visited = None
        return Revisited(self.base, lambda: self.update(index).stored)

    def update(self, index: int) -> Update:
        """The update at checkpoint `index`."""
        if self._visited is not None and self._visited[0] == index:
            return self._visited[1]
        where = self.points[index].name
        wt = self._after(self._read(self.files.checkpoints[index], ("run", index), where), where)
        is_zero = isinstance(wt, Tensor) and _is_zero(wt)
        if is_zero != self._base_is_zero and self._is_matrix:  # biases start at zero
            where, other = ("W0", "the checkpoints are") if self._base_is_zero else (where, "W0 is")
            raise RunError(f"{where}: all zeros, though {other} not; the file may be incomplete")
        return self._moved(wt)

    def keep_channel(self, index: int, update: Update, k: int, side: str) -> None:
        """Remember the top-k subspace of `update` for comparisons with other checkpoints."""
        if (index, k, side) not in self._channels:
            self._channels[index, k, side] = _attempt(lambda: _alone(top_channel(update, k, side)))

    def channel(self, index: int, k: int, side: str) -> Tensor:
        """The top-k subspace of the update at checkpoint `index`, shape (in or out, k). Raises Undefined."""
        if (index, k, side) not in self._channels:
            self.keep_channel(index, self.update(index), k, side)
        channel = self._channels[index, k, side]
        if isinstance(channel, Undefined):
            raise Undefined(f"{self.points[index].name}: {channel}")
        return channel

    @cached_property
    def path(self) -> Path:
        """The way over all checkpoints. One that is not held is read again."""
        self._visited = None
        held, self._held = self._held, {}

        def read(index: int) -> Tensor | LowRank:
            return held[index] if index in held else self.update(index).stored

        at_once = max(len(held) + 1, self._most_held(self.base.w0))
        return path_of(self.base.w0, [point.step for point in self.points], read, at_once=at_once)

    def _most_held(self, stored: Tensor | LowRank) -> int:
        """How many checkpoints like this one may be in memory at once."""
        tensors = (stored,) if isinstance(stored, Tensor) else (stored.left, stored.right)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return max(FEWEST_HELD, HELD * self.base.w0.numel() // max(1, size))

    def reference(self, index: int) -> Update:
        """The reference's update at the progress of checkpoint `index`. Raises Undefined."""
        match = self.files.match(self.points[index].progress)
        self._require_shared_start()
        update = self._moved(
            self._after(self._of_reference(("reference", match), self.files.reference(match)), "the reference")
        )
        if self._is_matrix and not update.wt.any():
            raise Undefined("the reference holds nothing but zeros")
        if self._is_matrix and update.norm >= ANOTHER_MODEL * update.base.norm:
            raise Undefined("the reference is another model: it did not start from this W0")
        return update

    def _require_shared_start(self) -> None:
        """Raise Undefined where the reference brings a W0 of its own that is another than this run's."""
        if self._shares_start is None:
            theirs = self.files.reference_base()
            theirs = None if theirs is None else whole(self._of_reference(REFERENCE_W0, theirs))
            self._shares_start = theirs is None or _equal(theirs, self._w0)
        if not self._shares_start:
            raise Undefined("the reference started from another W0: what the two changed cannot be compared")

    def _of_reference(self, snapshot: Snapshot, stored: Tensor | Change) -> Tensor | Change:
        """A tensor of the reference, digested. Raises Undefined where it is not finite."""
        try:
            require_finite(stored, "the reference")
        except RunError as error:
            raise Undefined(str(error)) from error
        self.digests[snapshot] = digest(stored)
        return stored

    def _read(self, read: Callable[[], Tensor | Change], snapshot: Snapshot, where: str) -> Tensor | Change:
        stored = read()
        require_finite(stored, where)
        if snapshot not in self.digests:
            self.digests[snapshot] = digest(stored)
        return stored

    def _after(self, stored: Tensor | Change, where: str) -> Tensor | LowRank:
        """W_t, or D_t by its factors. Raises RunError."""
        if isinstance(stored, Tensor):
            return stored
        try:
            wt = stored.of(self._w0)
        except RunError as error:
            raise RunError(f"{where}: {error}") from error
        if isinstance(wt, Tensor):
            require_finite(wt, where)
        return wt

    def _moved(self, wt: Tensor | LowRank) -> Update:
        """The update, on the device that computes."""
        if isinstance(wt, LowRank):
            return Update(self.base, LowRank(on_device(wt.left, self.device), on_device(wt.right, self.device)))
        return Update(self.base, on_device(wt, self.device))


class Revisited(Update):
    """An update whose checkpoint was visited before; its tensor is read again only if more than channels is needed."""

    def __init__(self, base: Base, read: Callable[[], Tensor | LowRank]) -> None:
        self.base = base
        self._read = read
        self._own_routes = {}

    @cached_property
    def stored(self) -> Tensor | LowRank:  # type: ignore[override]
        """W_t, shape (out, in), or D_t by its factors."""
        return self._read()


@dataclass(frozen=True)
class Standpoint:
    """What a metric may see of the rest of the run from one checkpoint."""

    trajectory: Trajectory
    index: int

    def channel(self, at: Any, k: int, side: str) -> Tensor:
        """See `geomcheck.diagnostics.RunView.channel`."""
        index = self.index if at == "this" else locate(self.trajectory.points, at, self.index)
        if index is None:
            raise Undefined(f"the run has no checkpoint {at}")
        return self.trajectory.channel(index, k, side)

    def reference(self) -> Update:
        """See `geomcheck.diagnostics.RunView.reference`."""
        return self.trajectory.reference(self.index)

    def path(self) -> Path:
        """See `geomcheck.diagnostics.RunView.path`."""
        return self.trajectory.path.until(self.index)

    def cosine(self, at: Any) -> float:
        """See `geomcheck.diagnostics.RunView.cosine`."""
        index = locate(self.trajectory.points, at, self.index)
        if index is None:
            raise Undefined(f"the run has no checkpoint {at}")
        return self.trajectory.path.cosine(self.index, index)


def measure_weight(
    files: WeightFiles,
    points: Sequence[Point],
    requests: Sequence[Set[Request]],
    metrics: Registry,
    *,
    device: torch.device = CPU,
    memory: BaseStates | None = None,
    read_ahead: bool = True,
) -> Measured:
    """The figures of one weight.

    Each checkpoint is visited once. A figure that compares it with one that is visited later waits until the
    channels of both are known, and one of the path until all were visited.

    Args:
        requests: what to measure at each of `points`.
        memory: factorizations of W0 from earlier sessions.
        read_ahead: whether the next checkpoint is read while one is measured.

    Raises:
        RunError: a tensor cannot be read, holds NaN or infinity, or is empty where W0 is not.
    """
    itinerary = Itinerary(points, requests, metrics)
    with reading_ahead(files.checkpoints, itinerary.order() if read_ahead else ()) as checkpoints:
        files = replace(files, checkpoints=checkpoints)
        trajectory = Trajectory(files, points, device, memory, keeps_path=itinerary.keeps_path)
        measured = follow(trajectory, itinerary)
    trajectory.remember()
    return measured


def follow(trajectory: Trajectory, itinerary: Itinerary) -> Measured:
    """The figures of one weight along `itinerary`, without visiting checkpoints that were measured before. Raises
    RunError if a tensor cannot be read, or holds NaN or infinity, or is empty where W0 is not."""
    measured = Measured(digests=trajectory.digests)
    visited = set(trajectory.past)
    waiting = [(index, request) for index in trajectory.past for request in sorted(itinerary.requests[index])]
    for index in itinerary.order():
        if index in trajectory.past:
            continue
        visited.add(index)
        update = trajectory.visit(index)
        requests = sorted(itinerary.requests[index])
        if any(itinerary.metrics[request.metric].of_entries for request in requests):
            measured.sketches[index] = update.sketch
        late = [r for r in requests if itinerary.is_of_path(r) or not itinerary.targets(r, index) <= visited]
        own = {channel for request in late for channel in channels_of(request, update.shape)}
        for k, side in sorted(own | itinerary.channels(index, update.shape)):
            trajectory.keep_channel(index, update, k, side)
        for request in requests:
            if request not in late:
                measured.answers[index, request] = _answer(request, itinerary, update, Standpoint(trajectory, index))
        measured.routes[index] = routes_of(update)
        waiting += [(index, request) for request in late]
    for index, request in waiting:
        standpoint = Standpoint(trajectory, index)
        measured.answers[index, request] = _answer(request, itinerary, trajectory.revisit(index), standpoint)
    return measured


def _answer(request: Request, itinerary: Itinerary, update: Update, standpoint: Standpoint) -> Answer:
    meet()  # weights that are measured together in lockstep all wait for each other here
    metric = itinerary.metrics[request.metric]
    if standpoint.index in standpoint.trajectory.unchanged and not metric.when_unchanged:
        return "W_t equals W0"
    figures = _attempt(lambda: metric.compute(update, request.parameters(), standpoint))
    if isinstance(figures, Undefined):
        return str(figures)
    if not all(math.isfinite(value) for value in figures.values()):
        return str(BEYOND_RANGE)
    return {stat: float(value) for stat, value in figures.items()}


def _attempt(compute: Callable[[], T]) -> T | Undefined:
    """What `compute` gives, or the reason why there is no such thing: without the traceback, which holds tensors."""
    try:
        return compute()
    except Undefined as reason:
        return Undefined(str(reason))
    except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        return Undefined(f"its spectrum cannot be computed ({error})")
    except ArithmeticError:
        return BEYOND_RANGE


def _alone(channel: Tensor) -> Tensor:
    """A contiguous copy. A view would keep all singular vectors in memory, and products round by memory order."""
    return channel.clone(memory_format=torch.contiguous_format)


def _moved_to(device: torch.device, channel: Channel) -> Channel:
    return channel if isinstance(channel, Undefined) else channel.to(device, torch.float64)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever format they are stored in."""
    return torch.equal(one, other) if one.dtype == other.dtype else torch.equal(one.double(), other.double())


def _is_zero(tensor: Tensor) -> bool:
    """Whether all entries are zero, without the byte per entry that `any` allocates."""
    return not tensor.numel() or not any(map(float, torch.aminmax(tensor)))
