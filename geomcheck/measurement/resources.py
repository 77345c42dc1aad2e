"""What a measurement may use: workers, a device and a cache."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from geomcheck._lazy import late
from geomcheck.errors import UsageError
from geomcheck.measurement.cache import Cache
from geomcheck.measurement.device import device_named
from geomcheck.measurement.task import Outcome, Sources, Task

if TYPE_CHECKING:
    from geomcheck.measurement import executors
    from geomcheck.measurement.executors import Workers
else:
    executors = late("geomcheck.measurement.executors")

K = TypeVar("K", bound=Task)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a measurement may use.

    Attributes:
        workers: single-threaded local workers, by default one per processor as memory allows; on a GPU, groups of
            weights at work, by default two; or ``ray``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache: remembers earlier measurements.
    """

    workers: Workers = None
    device: str = "auto"
    cache: Cache = field(default_factory=Cache.off)

    @cached_property
    def torch_device(self) -> str:
        """The device that computes. Raises UsageError where there is none such."""
        return device_named(self.device)

    def require_device(self) -> None:
        """Raise UsageError where there is no such device here."""
        _ = self.torch_device

    def execute(self, tasks: Sequence[K], sources: Sources) -> Generator[tuple[K, Outcome], None, None]:
        """Do `tasks`; see `geomcheck.measurement.executors.execute`."""
        return executors.execute(tasks, sources, workers=self.workers)


def parse_workers(value: int | str | None, *, option: str = "workers ") -> Workers:
    """The value of ``--geom-workers``: N, ``ray``, or the default where there is none. Raises UsageError."""
    text = "" if value is None else str(value)
    if not text:
        return None
    if text == "ray":
        return "ray"
    if not text.isdecimal() or len(text) > 6 or int(text) < 1:
        raise UsageError(f"{option}{text}: give a whole number of local workers, 1 or more, or ray")
    return int(text)
