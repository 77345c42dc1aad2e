"""One weight at one observation: the figures of the new checkpoint, and the earlier ones that it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor

from geomcheck.checkpoints import Change
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.diagnostics.linalg import SMALL
from geomcheck.errors import Undefined
from geomcheck.live.loop.history import ObservedWeight
from geomcheck.measurement.itinerary import Itinerary
from geomcheck.measurement.measured import BaseStates
from geomcheck.measurement.trajectory import Channel, Kept, Trajectory, WeightFiles, follow
from geomcheck.record import Point, Request, is_trivial, locate
from geomcheck.record.points import is_awaited

ReadTensor = Callable[[], Tensor | Change]


def itinerary_at_newest(points: Sequence[Point], requests: Set[Request]) -> Itinerary:
    """What to measure of `requests` at each checkpoint when the last of `points` has come.

    At the last one that is everything, and at earlier ones what is now compared with another checkpoint than before.
    What later checkpoints may be compared with stays in memory.
    """
    metrics, last = load_metrics(), len(points) - 1
    now, before = (Itinerary(seen, [requests] * len(seen), metrics) for seen in (points, points[:-1]))

    def is_new(request: Request, index: int) -> bool:
        asked = metrics[request.metric], request
        if is_trivial(metrics[request.metric], request.parameters(), points, index):
            return False
        return index == last or now.targets(asked, index) != before.targets(asked, index)

    wanted = [{request for request in requests if is_new(request, index)} for index in range(len(points))]
    later = {request for request in requests if _may_compare_later(metrics[request.metric], request, points)}
    return Itinerary(points, wanted, metrics, later)


def observe_weight(
    name: str,
    asked: Set[Request],
    itinerary: Itinerary,
    kept: Kept,
    *,
    base: ReadTensor,
    current: ReadTensor,
    device: torch.device,
    memory: BaseStates | None,
) -> ObservedWeight:
    """Measure a weight at the last checkpoint of an itinerary.

    Args:
        asked: all that is asked of it, now and later.
        itinerary: from `itinerary_at_newest`.
        kept: what is known of its earlier checkpoints.
        base, current: read W0, and the weight as it is.

    Raises:
        RunError: a tensor cannot be read, or holds NaN or infinity, or is empty where W0 is not.
    """
    points, now = itinerary.points, len(itinerary.points) - 1
    reads: list[ReadTensor] = [partial(_gone, point) for point in points[:-1]]
    files = WeightFiles(name, base=base, checkpoints=[*reads, current], match=_no_reference, reference=_no_reference)
    trajectory = Trajectory(files, points, device, memory, kept)
    own = replace(itinerary, wanted=[asked & due for due in itinerary.wanted], later=asked & itinerary.later)
    measured = follow(trajectory, own)
    trajectory.remember()
    after = trajectory.kept
    channels = {(k, side): _compact(channel) for (index, k, side), channel in after.channels.items() if index == now}
    return ObservedWeight(measured, channels, now in after.unchanged)


def _may_compare_later(metric: Metric, request: Request, points: Sequence[Point]) -> bool:
    """Whether a later figure of `request` may need the channel of the last of `points`."""
    if not metric.across:
        return False
    newest, params = len(points) - 1, request.parameters()
    places = [params[p.name] for p in metric.measured_parameters if p.kind == "checkpoint"]
    # With "previous", the next one is compared with this one; with one that is awaited, this one is with that.
    return any(at == "previous" or is_awaited(points, at) or locate(points, at, newest) == newest for at in places)


def _compact(channel: Channel) -> Channel:
    """A channel of a large matrix in float32: half the memory, for 1e-7 of a figure."""
    return channel.float() if isinstance(channel, Tensor) and len(channel) >= SMALL else channel


def _gone(point: Point) -> NoReturn:
    raise Undefined(
        f"the weights of {point.name} are needed again, and a watched training keeps only channels of them; measure "
        "the saved checkpoints"
    )


def _no_reference(_: float) -> NoReturn:
    raise Undefined("a training reads no weights of a reference run")
