"""Sketches of updates by checkpoint and weight, from which two records tell the cosine of their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from geomcheck.diagnostics.sketch import SIZE, cosines, unpacked
from geomcheck.record.column import repeats


@dataclass(frozen=True, eq=False)
class Sketches:
    """What `geomcheck.diagnostics.sketch` keeps of each update, as parallel arrays with one entry per sketch.

    Attributes:
        steps: int64, shape (sketches,).
        names: of the weights.
        codes: int32, shape (sketches,): the index of each sketch's weight in `names`.
        values: float16, shape (sketches, SIZE).
    """

    steps: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    names: Sequence[str] = ()
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    values: np.ndarray = field(default_factory=lambda: np.empty((0, SIZE), np.float16))

    @classmethod
    def of(cls, found: Mapping[tuple[int, str], bytes]) -> Sketches:
        """Of these, by (step, weight). Raises ValueError where one is no sketch."""
        names = tuple(dict.fromkeys(name for _, name in found))
        codes = {name: code for code, name in enumerate(names)}
        return cls(
            np.array([step for step, _ in found], np.int64),
            names,
            np.array([codes[name] for _, name in found], np.int32),
            unpacked(b"".join(found.values())),
        )

    @property
    def repeats(self) -> bool:
        """Whether some weight has two sketches at one step."""
        return repeats(self.steps, self.codes, self.names)

    def at(self, step: int, names: Sequence[str]) -> np.ndarray:
        """Those of these weights at one step: float16, shape (names, SIZE), zeros where there is none."""
        places = {name: place for place, name in enumerate(names)}
        across = np.array([places.get(name, -1) for name in self.names], np.int64)[self.codes]
        found = np.zeros((len(names), SIZE), np.float16)
        chosen = (self.steps == step) & (across >= 0)
        found[across[chosen]] = self.values[chosen]
        return found

    def cosines(self, step: int, other: Sketches, other_step: int, names: Sequence[str]) -> dict[str, float]:
        """The cosine of the update at `step` with the update at `other_step` of another record of the same W0, -1..1,
        for those of `names` that moved in both; each with the error `geomcheck.diagnostics.sketch.standard_error`."""
        found = cosines(self.at(step, names), other.at(other_step, names))
        return {name: c for name, c in zip(names, found.tolist(), strict=True) if c == c}
