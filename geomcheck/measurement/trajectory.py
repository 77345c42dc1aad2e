"""One weight along a run: reads each checkpoint once, measures everything asked of it, keeps only small things."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from geomcheck.checkpoints import Change
from geomcheck.checkpoints.changes import whole
from geomcheck.diagnostics import Base, Metric, Registry, Update, resolve_rank
from geomcheck.diagnostics.locking import top_channel
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.errors import RunError, Undefined
from geomcheck.measurement.places import is_trivial, locate
from geomcheck.measurement.record import Figure, Point, Row
from geomcheck.measurement.request import Request

ANOTHER_MODEL = 1.0
"""Relative update norm at which W_t is of another model than W0: two unrelated ones are about sqrt(2) apart."""

T = TypeVar("T")

Channel = Tensor | Undefined
BEYOND_RANGE = Undefined("it is beyond the range of float64")


@dataclass(frozen=True)
class WeightFiles:
    """How to read one weight: W0, then each checkpoint, and the same of a reference run if there is one."""

    name: str
    base: Callable[[], Tensor | Change]
    checkpoints: Sequence[Callable[[], Tensor | Change]]
    reference: Callable[[int], Tensor | Change] | None = None


class Trajectory:
    """The cumulative updates of one weight, one checkpoint at a time.

    The base's factorization is shared by all checkpoints. Of a checkpoint that has been measured only its
    channels (in x K) stay, so memory does not grow with the length of the run.
    """

    def __init__(self, files: WeightFiles, points: Sequence[Point]) -> None:
        self.files = files
        self.points = points
        self.digests: dict[str, str] = {}
        self.base = Base(whole(self._read(files.base, "W0")))
        self._channels: dict[tuple[int, int, str], Channel] = {}

    def update(self, index: int) -> Update:
        """The update at checkpoint `index`."""
        where = self.points[index].name
        wt = _after(self._read(self.files.checkpoints[index], where), self.base, where)
        empty = isinstance(wt, Tensor) and not wt.any()
        if empty and self.base.w0.any():
            raise RunError(f"{where}: all zeros, though W0 is not; the file may be incomplete")
        if not empty and not self.base.w0.any():
            raise RunError("W0: all zeros, though the checkpoints are not; the file may be incomplete")
        return Update(self.base, wt)

    def keep_channel(self, index: int, update: Update, k: int, side: str) -> None:
        """Remember the top-k subspace of `update` for comparisons with other checkpoints."""
        self._channels[index, k, side] = _attempt(lambda: top_channel(update, k, side))

    def channel(self, index: int, k: int, side: str) -> Tensor:
        """The top-k subspace of the update at checkpoint `index`. Raises Undefined."""
        if (index, k, side) not in self._channels:
            self.keep_channel(index, self.update(index), k, side)
        channel = self._channels[index, k, side]
        if isinstance(channel, Undefined):
            raise Undefined(f"{self.points[index].name}: {channel}")
        return channel

    def _read(self, read: Callable[[], Tensor | Change], where: str) -> Tensor | Change:
        stored = read()
        tensors = (stored,) if isinstance(stored, Tensor) else stored.tensors
        for tensor in tensors:
            _require_finite(tensor, where)
        if where not in self.digests:
            self.digests[where] = _digest(*tensors)
        return stored


@dataclass(frozen=True)
class Standpoint:
    """A trajectory as seen from one checkpoint: what a metric may ask about the rest of the run."""

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
        read = self.trajectory.files.reference
        if read is None:
            raise Undefined("no reference run with weights was given (--geom-reference=DIRECTORY)")
        update = Update(self.trajectory.base, _after(read(self.index), self.trajectory.base, "the reference"))
        if not torch.isfinite(update.wt).all() or not update.wt.any():
            raise Undefined("the reference holds NaN, infinite values or nothing but zeros")
        if update.norm >= ANOTHER_MODEL * update.base.norm:
            raise Undefined("the reference is another model: it did not start from this W0")
        return update


def measure_weight(
    files: WeightFiles, points: Sequence[Point], requests: Iterable[Request], metrics: Registry
) -> tuple[list[Row], list[str]]:
    """All figures of one weight at all checkpoints, and the digests of the tensors read (W0 first).

    Raises:
        RunError: a tensor cannot be read, holds NaN or infinity, or is empty where W0 is not.
    """
    wanted = [(metrics[request.metric], request) for request in sorted(requests)]
    local = [(metric, request) for metric, request in wanted if not metric.across]
    across = [(metric, request) for metric, request in wanted if metric.across]
    trajectory = Trajectory(files, points)
    rows: list[Row] = []
    for index, point in enumerate(points):
        update = trajectory.update(index)
        standpoint = Standpoint(trajectory, index)
        for metric, request in local:
            rows += _rows(point, files.name, metric, request, _figures(metric, request, update, standpoint))
        for k, side in _channels_of(across, update.shape):
            trajectory.keep_channel(index, update, k, side)
    for index, point in enumerate(points) if across else ():
        update = trajectory.update(index)
        standpoint = Standpoint(trajectory, index)
        for metric, request in across:
            if not is_trivial(metric, request.parameters(), points, index):
                rows += _rows(point, files.name, metric, request, _figures(metric, request, update, standpoint))
    return rows, list(trajectory.digests.values())


def _figures(
    metric: Metric, request: Request, update: Update, standpoint: Standpoint
) -> Mapping[str, float] | Undefined:
    if update.is_zero and not metric.when_unchanged:
        return Undefined("W_t equals W0")
    figures = _attempt(lambda: metric.compute(update, request.parameters(), standpoint))
    if isinstance(figures, Undefined):
        return figures
    if not all(math.isfinite(value) for value in figures.values()):
        return BEYOND_RANGE
    return figures


def _attempt(compute: Callable[[], T]) -> T | Undefined:
    """What `compute` gives, or the reason why there is no such thing."""
    try:
        return compute()
    except Undefined as reason:
        return reason
    except (torch.linalg.LinAlgError, np.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        return Undefined(f"its spectrum cannot be computed ({error})")
    except ArithmeticError:
        return BEYOND_RANGE


def _rows(
    point: Point, weight: str, metric: Metric, request: Request, figures: Mapping[str, float] | Undefined
) -> list[Row]:
    if isinstance(figures, Undefined):
        figure = Figure(undefined=str(figures))
        return [Row(point.step, weight, request, stat, figure) for stat in metric.stats]
    return [Row(point.step, weight, request, stat, Figure(value=v)) for stat, v in figures.items()]


def _channels_of(across: Iterable[tuple[Metric, Request]], shape: tuple[int, int]) -> set[tuple[int, str]]:
    """(K, side) of every channel that the metrics will compare."""
    wanted = set()
    for _, request in across:
        params = request.parameters()
        if "k" in params:
            wanted.add((resolve_rank(params["k"], shape), params.get("side", "right")))
    return wanted


def _after(stored: Tensor | Change, base: Base, where: str) -> Tensor | LowRank:
    """W_t, or D_t by its factors. Raises RunError."""
    if isinstance(stored, Tensor):
        return stored
    try:
        wt = stored.of(base.w0)
    except RunError as error:
        raise RunError(f"{where}: {error}") from error
    if isinstance(wt, Tensor):
        _require_finite(wt, where)
    return wt


def _require_finite(tensor: Tensor, where: str) -> None:
    finite = torch.isfinite(tensor)
    if not finite.all():
        count = tensor.numel() - int(finite.sum())
        raise RunError(f"{where}: {count} of {tensor.numel()} values are NaN or infinite")


def _digest(*tensors: Tensor) -> str:
    content = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        content.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return content.hexdigest()
