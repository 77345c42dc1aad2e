"""A request: a metric with its parameters, in one canonical spelling; and a plan: requests by weight."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from geomcheck._gc import lasting
from geomcheck.diagnostics import Metric


class Request(NamedTuple):
    """A metric and its parameters, to be measured of a weight at every checkpoint.

    Attributes:
        metric: name of the metric.
        params: its measured parameters, defaults filled in, as JSON with sorted keys. Two suites that need
            the same figure make equal requests, however they spell it.
    """

    metric: str
    params: str = "{}"

    @classmethod
    def of(cls, metric: Metric, params: Mapping[str, Any]) -> Request:
        """The request for `metric` with `params`; parameters left out take their defaults."""
        measured = {p.name: params.get(p.name, p.default) for p in metric.measured_parameters}
        return cls(metric.name, json.dumps(measured, sort_keys=True, separators=(",", ":")))

    def parameters(self) -> dict[str, Any]:
        """The parameters as plain Python values."""
        parameters: dict[str, Any] = json.loads(self.params)
        return parameters


Plan = Mapping[str, Set[Request]]
"""What to measure of a run: requests by weight name."""


@lasting()
def merge(plans: Iterable[Plan]) -> dict[str, set[Request]]:
    """One plan with the requests of all."""
    merged: dict[str, set[Request]] = {}
    for plan in plans:
        for weight, requests in plan.items():
            merged.setdefault(weight, set()).update(requests)
    return merged
