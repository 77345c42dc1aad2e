"""One weight at one observation: the figures of the new checkpoint, and the earlier ones that it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor

from geomcheck.checkpoints import Change
from geomcheck.diagnostics import Metric, load_metrics
from geomcheck.diagnostics.linalg import SMALL
from geomcheck.errors import Undefined
from geomcheck.live.loop.history import Followed
from geomcheck.measurement.itinerary import Itinerary
from geomcheck.measurement.measured import BaseStates
from geomcheck.measurement.trajectory import Channel, PastCheckpoints, Trajectory, WeightFiles, follow
from geomcheck.record import Point, Request, is_trivial, locate
from geomcheck.record.points import is_awaited

Read = Callable[[], Tensor | Change]


@dataclass(frozen=True)
class Agenda:
    """What is measured at each checkpoint when the last of `points` has come.

    Attributes:
        points: the checkpoints so far.
        wanted: by checkpoint: all that can be at the last one, and at earlier ones what is now compared with another
            checkpoint than before.
        later: what later checkpoints may be compared by with the last one, whose channels must stay for that.
    """

    points: Sequence[Point]
    wanted: Sequence[Set[Request]]
    later: Set[Request]

    @classmethod
    def of(cls, points: Sequence[Point], requests: Iterable[Request]) -> Agenda:
        """The agenda for `requests`, whichever weight they are asked of."""
        requests, metrics, last = set(requests), load_metrics(), len(points) - 1
        now, before = (Itinerary(seen, [requests] * len(seen), metrics) for seen in (points, points[:-1]))

        def has_changed(request: Request, index: int) -> bool:
            return index == last or now.targets(request, index) != before.targets(request, index)

        return cls(
            points,
            [
                {
                    request
                    for request in requests
                    if has_changed(request, index)
                    and not is_trivial(metrics[request.metric], request.parameters(), points, index)
                }
                for index in range(len(points))
            ],
            {request for request in requests if _stays(metrics[request.metric], request, points)},
        )


def follow_weight(
    name: str,
    asked: Set[Request],
    agenda: Agenda,
    kept: PastCheckpoints,
    *,
    base: Read,
    current: Read,
    device: torch.device,
    memory: BaseStates | None,
) -> Followed:
    """Measure a weight at the last checkpoint of `agenda`.

    Args:
        asked: all that is asked of it, now and later.
        kept: what is known of its earlier checkpoints.
        base, current: read W0, and the weight as it is.

    Raises:
        RunError: a tensor cannot be read, or holds NaN or infinity, or is empty where W0 is not.
    """
    points, now = agenda.points, len(agenda.points) - 1
    reads: list[Read] = [partial(_gone, point) for point in points[:-1]]
    files = WeightFiles(name, base=base, checkpoints=[*reads, current], match=_no_reference, reference=_no_reference)
    trajectory = Trajectory(files, points, device, memory, kept)
    measured = follow(
        trajectory, Itinerary(points, [asked & due for due in agenda.wanted], load_metrics(), asked & agenda.later)
    )
    trajectory.remember()
    after = trajectory.kept
    channels = {(k, side): _compact(channel) for (index, k, side), channel in after.channels.items() if index == now}
    return Followed(measured, channels, now in after.unchanged)


def _stays(metric: Metric, request: Request, points: Sequence[Point]) -> bool:
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


def _gone(point: Point) -> Tensor | Change:
    raise Undefined(
        f"the weights of {point.name} are needed again, and a watched training keeps only channels of them; measure "
        "the saved checkpoints"
    )


def _no_reference(_: float) -> NoReturn:
    raise Undefined("a training reads no weights of a reference run")
