"""What a measurement finds about one weight, and what it remembers of W0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from geomcheck.record import Request
from geomcheck.record.routes import Routes

if TYPE_CHECKING:
    from torch import Tensor

Snapshot = tuple[Literal["base", "run", "reference"], int]
"""Which state of the model a tensor is of: W0, or a checkpoint of the run or of the reference, by its index."""

W0: Snapshot = ("base", 0)
REFERENCE_W0: Snapshot = ("reference", -1)
"""The W0 that a reference run brings itself."""

Answer = Mapping[str, float] | str
"""What a request gives at one checkpoint: figures by statistic, or the reason why there are none."""


@dataclass(frozen=True)
class Measured:
    """What was found about one weight.

    Attributes:
        answers: by index of the checkpoint and request.
        digests: of the tensors that were read, by content.
        routes: which algorithms answered, by index of the checkpoint.
        sketches: of the update at a checkpoint, by its index, as `geomcheck.diagnostics.sketch` keeps it.
    """

    answers: dict[tuple[int, Request], Answer] = field(default_factory=dict)
    digests: dict[Snapshot, str] = field(default_factory=dict)
    routes: dict[int, Routes] = field(default_factory=dict)
    sketches: dict[int, bytes] = field(default_factory=dict)

    def update(self, other: Measured) -> None:
        """Add what was found later."""
        self.answers.update(other.answers)
        self.digests.update(other.digests)
        self.sketches.update(other.sketches)
        for index, routes in other.routes.items():
            self.routes[index] = {**self.routes.get(index, {}), **routes}


class BaseStates(Protocol):
    """Stored factorizations of W0, by the digest of the weight."""

    def base_state(self, digest: str, *, max_bytes: int) -> Mapping[str, Tensor] | None:
        """The tensors that `geomcheck.diagnostics.Base.from_state` takes; None where there are none, or larger ones."""

    def keep_base_state(self, digest: str, state: Mapping[str, Tensor]) -> None:
        """Store the tensors that `geomcheck.diagnostics.Base.state` gives, if there is room."""
