"""Tasks: what to do for one weight, described in so few words that it can be sent to any worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, ClassVar

from geomcheck._lazy import late
from geomcheck.checkpoints import BaseWeights, Change, Run, Stored, WeightSource, comparable
from geomcheck.checkpoints.inside import file_identity
from geomcheck.checkpoints.remote import is_remote
from geomcheck.diagnostics import load_metrics
from geomcheck.diagnostics.declaration import NO_REFERENCE
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import RunError, Undefined
from geomcheck.measurement.content import digest, require_finite
from geomcheck.measurement.machine import return_freed_memory
from geomcheck.measurement.measured import REFERENCE_W0, W0, BaseStates, Measured, Snapshot
from geomcheck.record import Point, Request
from geomcheck.record.points import matches, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from geomcheck.measurement import device as devices
    from geomcheck.measurement import trajectory
else:
    devices, trajectory = late("geomcheck.measurement.device"), late("geomcheck.measurement.trajectory")

WORKING_COPIES, SQUARE_COPIES = 6, 6
"""Float64 copies of a weight, and of its smaller Gram matrix, that its measurement holds at its peak.

Measured: 51 bytes per entry of a 12288x4096 matrix and 64 of a 4096x4096 one, by the certified routes; 79 and 140 where
float64 factorizations answer.
"""

READ_AHEAD = 2**27
"""Largest weight, in entries, of which the next checkpoint is read ahead; beyond it memory matters more."""

HOST_COPIES = 4
"""Float64 copies of a weight that the host holds at the peak where a GPU measures it: W0, W_t and copies to it."""

Outcome = Measured | RunError


class NotEnoughMemory(RunError):
    """A weight does not fit in the memory that is left."""


@dataclass(frozen=True)
class Sources:
    """The opened files of a measurement: a run, its W0 and a reference, all under canonical names.

    Attributes:
        memory: factorizations of W0 from earlier sessions, on the machine that has them.
        reading: told of each weight that is read at a checkpoint, by its index.
        given_up: set once nobody waits for what is measured any more; tasks at work end at the next checkpoint.
    """

    run: Run
    base: BaseWeights
    reference: Run | None = None
    memory: BaseStates | None = None
    reading: Callable[[str, int], None] = field(default=lambda name, index: None, compare=False, repr=False)
    given_up: Event = field(default_factory=Event, compare=False, repr=False)

    def __post_init__(self) -> None:
        _ = self._as_opened  # before anything is read

    @cached_property
    def _as_opened(self) -> Mapping[Path, tuple[int, ...]]:
        """The identity of each file. Raises RunError where one cannot be accessed."""
        try:
            return {path: file_identity(path) for source in self.snapshots().values() for path in source.files}
        except OSError as error:
            raise RunError(f"{error.filename}: cannot be opened: {error.strerror}; is the disk in order?") from error

    def require_unchanged(self) -> None:
        """Raise RunError where a file was written to or replaced since these sources were opened.

        Some formats are memory-mapped: what a file is overwritten with reaches a figure that is being computed.
        """
        changed = next((path for path, before in self._as_opened.items() if file_identity(path) != before), None)
        if changed is not None:
            raise RunError(f"{changed}: changed or removed while it was measured; is the run still being written?")

    @cached_property
    def streamed(self) -> bool:
        """Whether weights come from a URL, so that to read one twice costs more than to compute in vain."""
        return any(is_remote(source.path) for source in self.snapshots().values())

    @cached_property
    def names(self) -> dict[Snapshot, str]:
        """What each snapshot is called, for people."""
        found: dict[Snapshot, str] = {W0: "W0"}
        found |= {("run", index): checkpoint.name for index, checkpoint in enumerate(self.run.checkpoints)}
        others = self.reference.checkpoints if self.reference is not None else ()
        found |= {("reference", index): f"the reference's {c.name}" for index, c in enumerate(others)}
        return found | {REFERENCE_W0: "the reference's W0"}

    def snapshots(self) -> dict[Snapshot, WeightSource]:
        """The weights of each snapshot."""
        found: dict[Snapshot, WeightSource] = {W0: self.base.source}
        found |= {("run", index): checkpoint.source for index, checkpoint in enumerate(self.run.checkpoints)}
        others = self.reference.checkpoints if self.reference is not None else ()
        found |= {("reference", index): checkpoint.source for index, checkpoint in enumerate(others)}
        return found if self._reference_base is None else found | {REFERENCE_W0: self._reference_base}

    @cached_property
    def _reference_base(self) -> WeightSource | None:
        """The W0 that the reference brings itself, where that is not this run's directory of it."""
        own = self.reference.own_base if self.reference is not None else None
        if self.reference is None or own is None or own.source.path.samefile(self.base.source.path):
            return None
        return comparable(self.reference, own, dequantize=self.reference.dequantized)[1].source

    def match(self, progress: float) -> int:
        """Index of the reference's checkpoint at the same progress. Raises Undefined where there is none."""
        if self.reference is None:
            raise Undefined(NO_REFERENCE)
        found = nearest(self.reference.checkpoints, progress)
        if not matches(found, progress):
            raise Undefined(
                f"the reference has no checkpoint near {progress:.0%} of training: "
                f"the nearest is {found.name} at {found.progress:.0%}"
            )
        return self.reference.checkpoints.index(found)

    @cached_property
    def stored(self) -> dict[Snapshot, Mapping[str, Stored]]:
        """What each snapshot holds, by name; computed once."""
        return {snapshot: source.weights for snapshot, source in self.snapshots().items()}

    def read_checkpoint(self, name: str, index: int) -> Tensor | Change:
        """The weight at the run's checkpoint `index`. Raises RunError where it cannot be read, or nobody waits."""
        if self.given_up.is_set():
            raise RunError(f"{name}: the measurement was given up")
        self.reading(name, index)
        return self.run.checkpoints[index].source.read(name)

    def read_reference(self, name: str, shape: tuple[int, ...], index: int) -> Tensor | Change:
        """The reference's weight of this `shape` at its checkpoint `index`. Raises Undefined where it has none such."""
        assert self.reference is not None
        checkpoint = self.reference.checkpoints[index]
        stored = self.stored["reference", index].get(name)
        if stored is None or stored.dtype not in FORMATS or stored.shape != shape:
            raise Undefined(f"the reference's {checkpoint.name} has no such weight of shape {shape}")
        return checkpoint.source.read(name)

    def read_reference_base(self, name: str) -> Tensor | Change | None:
        """The weight, (out, in), in the W0 that the reference brings itself; None where it brings none, or lacks it."""
        held = self._reference_base
        return held.read(name) if held is not None and name in self.stored[REFERENCE_W0] else None


@dataclass(frozen=True)
class MeasureWeight:
    """Measure one weight.

    Attributes:
        name, shape: of the weight.
        points: the checkpoints of the run.
        requests: what to measure at each of them.
        device: where to compute, as torch names it.
    """

    name: str
    shape: tuple[int, ...]
    points: tuple[Point, ...]
    requests: tuple[Set[Request], ...]
    device: str = "cpu"

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Estimated peak memory."""
        return 8 * (WORKING_COPIES * self.numel + SQUARE_COPIES * min(self.shape, default=0) ** 2)

    @property
    def host_bytes(self) -> int:
        """Estimated peak of the host's memory where a GPU computes."""
        return HOST_COPIES * 8 * self.numel

    def without(self, known: Container[tuple[int, Request]]) -> MeasureWeight | None:
        """What is left to do where `known` is answered; None where that is all."""
        return self._only(lambda index, request: (index, request) not in known)

    def of(self, requests: Set[Request]) -> MeasureWeight | None:
        """The part of it that `requests` ask for; None where there is none."""
        return self._only(lambda _, request: request in requests)

    def of_entries(self) -> MeasureWeight | None:
        """The part of it that compares entries, and factorizes nothing; None where there is none."""
        metrics = load_metrics()
        return self._only(lambda _, request: metrics[request.metric].of_entries)

    def _only(self, chosen: Callable[[int, Request], bool]) -> MeasureWeight | None:
        """The part of it whose requests are `chosen`, by checkpoint; None where that is nothing."""
        part = tuple(frozenset(r for r in all_ if chosen(index, r)) for index, all_ in enumerate(self.requests))
        return replace(self, requests=part) if any(part) else None

    def __call__(self, sources: Sources) -> Measured:
        """Do it. Raises RunError, and NotEnoughMemory of that."""
        files = trajectory.WeightFiles(
            self.name,
            base=partial(sources.base.source.read, self.name),
            checkpoints=[partial(sources.read_checkpoint, self.name, i) for i in range(len(sources.run.checkpoints))],
            match=sources.match,
            reference=partial(sources.read_reference, self.name, self.shape),
            reference_base=partial(sources.read_reference_base, self.name),
        )
        device = devices.parse_device(self.device)
        factorizes = self.of_entries() != self
        try:
            found = trajectory.measure_weight(
                files,
                self.points,
                self.requests,
                load_metrics(),
                device=device,
                memory=sources.memory if factorizes else None,
                read_ahead=self.numel <= READ_AHEAD,
            )
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
            error.__traceback__ = None  # it would keep all that is in memory
            on_gpu = f"end other programs on {self.device}, or try --geom-workers=1 or --geom-device=cpu"
            remedy = "try --geom-workers=1" if self.device == "cpu" else on_gpu
            raise NotEnoughMemory(f"not enough memory to measure shape {self.shape}; {remedy}") from error
        finally:
            if factorizes:
                return_freed_memory()
        sources.require_unchanged()
        return found


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether it is numpy's MemoryError, or a RuntimeError of torch that says so in its own or CUDA's words."""
    signs = ("allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


@dataclass(frozen=True)
class DigestWeight:
    """Digest one weight in some snapshots, to look it up in a cache and to know that it is finite."""

    name: str
    numel: int
    snapshots: Sequence[Snapshot]
    device: ClassVar[str] = "cpu"

    @property
    def bytes(self) -> int:
        """Estimated peak memory."""
        return 8 * self.numel

    def __call__(self, sources: Sources) -> Measured:
        """Do it. Raises RunError where it cannot be read, or holds NaN or infinity."""
        digests = {}
        for snapshot in self.snapshots:
            stored = sources.snapshots()[snapshot].read(self.name)
            require_finite(stored, sources.names[snapshot], self.name)
            digests[snapshot] = digest(stored)
        return Measured(digests=digests)


Task = MeasureWeight | DigestWeight
