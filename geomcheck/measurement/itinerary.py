"""In which order the checkpoints of one weight are visited, so that each of them is read once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from geomcheck.diagnostics import Metric, Registry, resolve_rank
from geomcheck.record.points import partners
from geomcheck.record.record import Point
from geomcheck.record.request import Request

Asked = tuple[Metric, Request]


@dataclass(frozen=True)
class Itinerary:
    """A visit of each checkpoint that matters.

    Args:
        points: the checkpoints of the run.
        wanted: what is asked at each of them.
        metrics: what the requests name.
        later: what will be asked of checkpoints that are yet to come, which may be compared with these.
    """

    points: Sequence[Point]
    wanted: Sequence[Set[Request]]
    metrics: Registry
    later: Set[Request] = frozenset()

    def asked(self, index: int) -> list[Asked]:
        """What is measured at checkpoint `index`, in an order that does not depend on who asked."""
        return [(self.metrics[request.metric], request) for request in sorted(self.wanted[index])]

    def order(self) -> list[int]:
        """The checkpoints that most figures are compared with first, so that their channels are known in time.

        A figure that looks at D_t itself also compares its own target with itself, so its target goes before one
        that only channels are compared with; those can wait without being read again.
        """
        rest = {index for index, requests in enumerate(self.wanted) if requests} - self._compared.keys()
        return sorted(self._compared, key=lambda index: (-len(self._compared[index]), index)) + sorted(rest)

    def channels(self, index: int, shape: tuple[int, int]) -> set[tuple[int, str]]:
        """(K, side) of the channels of checkpoint `index` that others are compared with."""
        requests = {request for _, request in self._compared.get(index, ())}
        requests |= {request for request in self.later if self.metrics[request.metric].across}
        return {channel for request in requests for channel in channels_of(request, shape)}

    def targets(self, asked: Asked, index: int) -> set[int]:
        """The checkpoints that a figure at `index` is compared with."""
        metric, request = asked
        return set(partners(metric, request.parameters(), self.points, index))

    @cached_property
    def _compared(self) -> dict[int, list[tuple[int, Request]]]:
        """By checkpoint that figures are compared with: where, and by which request."""
        compared: dict[int, list[tuple[int, Request]]] = {}
        for index in range(len(self.points)):
            for asked in self.asked(index):
                for target in self.targets(asked, index):
                    compared.setdefault(target, []).append((index, asked[1]))
        return compared


def channels_of(request: Request, shape: tuple[int, int]) -> set[tuple[int, str]]:
    """(K, side) of the channel that a request compares, if it compares one."""
    params = request.parameters()
    return {(resolve_rank(params["k"], shape), params.get("side", "right"))} if "k" in params else set()
