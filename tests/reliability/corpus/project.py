"""Where a case happens: a project directory with one suite and one run, ``opd``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUITE = """\
geomcheck: 1
name: healthy
applies_to: ["opd*"]
expect:
  - id: support
    metric: update_support
    above: 5%
    at: last
  - id: rank
    metric: stable_rank
    within: [1.2, 16]
    why: A direction collapsed.
  - id: norm
    metric: relative_update_norm
    within: [1e-4, 0.5]
    per: weight
"""

STEPS = (10, 20, 30)


@dataclass(frozen=True)
class Project:
    """Attributes:
    root: the directory.
    place: the run's name of a step directory, with the step to be filled in.
    """

    root: Path
    place: str = "checkpoint-{}"

    @property
    def run(self) -> Path:
        """The run."""
        return self.root / "opd"

    @property
    def base(self) -> Path:
        """W0."""
        return self.run / "base"

    @property
    def suite(self) -> Path:
        """The suite."""
        return self.root / "suites" / "mine.yaml"

    @property
    def record(self) -> Path:
        """The record of the run, where the seed has one."""
        return self.root / "opd.parquet"

    def at(self, step: int = 20) -> Path:
        """A checkpoint: the directory that holds its weights."""
        return self.run / self.place.format(step)

    def weights(self, step: int = 20) -> Path:
        """The one safetensors file of a checkpoint; of W0 at step 0."""
        return (self.at(step) if step else self.base) / "model.safetensors"
