"""The order in which the checkpoints of one weight are visited, so that each of them is read once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from geomcheck.diagnostics import Registry, resolve_rank
from geomcheck.record import Point, Request
from geomcheck.record.points import partners


@dataclass(frozen=True)
class Itinerary:
    """One visit of each checkpoint at which something is requested.

    Args:
        requests: what to measure at each of `points`.
        later: requests at checkpoints that are yet to come, whose figures may be compared with these.
    """

    points: Sequence[Point]
    requests: Sequence[Set[Request]]
    metrics: Registry
    later: Set[Request] = frozenset()

    def order(self) -> list[int]:
        """Indices of the checkpoints: first those that most figures are compared with.

        Their channels are then known in time. A figure that looks at D_t itself also compares its own target with
        itself, so its target goes before one that only channels are compared with; those figures can wait without
        another visit.
        """
        rest = {index for index, requests in enumerate(self.requests) if requests} - self._compared.keys()
        return sorted(self._compared, key=lambda index: (-len(self._compared[index]), index)) + sorted(rest)

    def channels(self, index: int, shape: tuple[int, ...]) -> set[tuple[int, str]]:
        """(K, side) of the channels of checkpoint `index` that other checkpoints are compared with."""
        requests = {*self._compared.get(index, ())}
        requests |= {request for request in self.later if self.metrics[request.metric].across}
        return {channel for request in requests for channel in channels_of(request, shape)}

    def targets(self, request: Request, index: int) -> set[int]:
        """The checkpoints that the figure of `request` at `index` is compared with."""
        return set(partners(self.metrics[request.metric], request.parameters(), self.points, index))

    def is_of_path(self, request: Request) -> bool:
        """Whether the figure of `request` takes updates of several checkpoints at once."""
        metric = self.metrics[request.metric]
        return metric.of_path and metric.is_across(request.parameters())

    @cached_property
    def keeps_path(self) -> bool:
        """Whether any figure takes updates of several checkpoints at once."""
        return any(self.is_of_path(request) for requests in self.requests for request in requests)

    @cached_property
    def _compared(self) -> dict[int, list[Request]]:
        """The requests that compare a checkpoint with the one of this index, once for each such checkpoint."""
        compared: dict[int, list[Request]] = {}
        for index, requests in enumerate(self.requests):
            for request in sorted(requests):
                for target in self.targets(request, index):
                    compared.setdefault(target, []).append(request)
        return compared


def channels_of(request: Request, shape: tuple[int, ...]) -> set[tuple[int, str]]:
    """(K, side) of the channel that a request compares, if it compares one."""
    params = request.parameters()
    return {(resolve_rank(params["k"], shape), params.get("side", "right"))} if "k" in params else set()
