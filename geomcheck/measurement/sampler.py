"""Who says, while a run is measured, of which weights more must be known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import MeasureWeight
from geomcheck.record import Plan, Record


class Sampler(Protocol):
    """Asked after the metrics of entries of every weight, and then after each weight."""

    @property
    def seconds_left(self) -> float:
        """Until whatever is not measured stays so; 0 or less once that is so."""

    @property
    def done(self) -> bool:
        """Whether nothing more is wanted."""

    def begin(
        self, record: Record, content: str, tasks: Mapping[str, MeasureWeight], found: Mapping[str, Measured]
    ) -> None:
        """Look at a `record` with the metrics of entries.

        Args:
            content: a digest of every weight of the run.
            tasks: what there is to measure, by weight.
            found: what is known of each weight, to which is added what is measured.
        """

    def wanted(self) -> Plan:
        """What is to be measured next, by weight; nothing once nothing more is wanted."""

    def limiting(self) -> Plan:
        """What is to be measured before that which is `wanted`, as it limits what is left, and is not recorded."""

    def limited(self, found: Mapping[str, Measured]) -> None:
        """What was `limiting` is found, of the weights that there was time for."""

    def look(self, name: str) -> None:
        """More was found of a weight, or it turned out that it cannot be measured."""
