"""A run: checkpoints in the order of training, and W0 where the run itself provides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from geomcheck.checkpoints.scores import Account
from geomcheck.checkpoints.source import WeightSource


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run.

    Attributes:
        name: its directory's name; ``final`` for a run that is a single model.
        step: the number in its name: optimizer steps done, or for slime and AReaL the last step's index from 0.
        progress: share of the training done, 0..1.
        source: its weights.
        vouched: whether the framework left a mark that it is complete; the absence of one says nothing.
    """

    name: str
    step: int
    progress: float
    source: WeightSource
    vouched: bool = False


@dataclass(frozen=True)
class BaseWeights:
    """W0: its weights, and the rule by which they were found."""

    source: WeightSource
    how: str


@dataclass(frozen=True)
class SkippedStep:
    """A step directory that is left out: no checkpoint to judge.

    Attributes:
        name: of the directory.
        reason: why, as a clause.
        step: the number in its name.
        incomplete: False where nothing is unfinished: its weights were pruned, or it may be W0.
    """

    name: str
    reason: str
    step: int
    incomplete: bool = True


def share_done(step: int, total: int, *, first: int = 1) -> float:
    """Share of the training done, 0..1, at `step` of `total`, where the first step has the number `first`."""
    done = 1 - first
    return min(1.0, (step + done) / (total + done))


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes:
        name: the directory's name, and that of the `part`, which suites match with `applies_to`.
        path: the directory.
        checkpoints: ascending by step, at least one; W0 is not among them.
        own_base: W0 as the run itself provides it, or None.
        notes: oddities that a reader should know of, `omissions` among them.
        dequantized: whether fp8 weights are read as fp32.
        framework: what wrote the directories, by their layout.
        left_out: step directories that are not among the checkpoints.
        omissions: what to say of those.
        planned: the number of the training's last step, as the run or the user says; None where that is not known, and
            the last checkpoint so far counts as the whole.
        first: the number that the framework gives to the first step.
        account: its scores, and to what its training was confined.
        part: the directory in each checkpoint that is judged, where the caller named one of several.
    """

    name: str
    path: Path
    checkpoints: tuple[Checkpoint, ...]
    own_base: BaseWeights | None
    notes: tuple[str, ...] = ()
    dequantized: bool = False
    framework: str = ""
    left_out: tuple[SkippedStep, ...] = ()
    omissions: tuple[str, ...] = ()
    planned: int | None = None
    first: int = 1
    account: Account = field(default_factory=Account)
    part: str = ""

    @property
    def address(self) -> Path:
        """What opens it again: its path, with the `part` behind it."""
        return self.path / self.part

    @property
    def layout(self) -> str:
        """How the checkpoints are stored."""
        return self.checkpoints[0].source.layout
