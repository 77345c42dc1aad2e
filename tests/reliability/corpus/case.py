"""A case of the corpus: a good run or suite, what is done to it, and what must come of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.reliability.corpus.project import Project


class Outcome(Enum):
    """What the gate must say. The value is what users see."""

    USAGE = "wrong usage, exit 4"
    INVALID = "invalid suite, exit 2"
    ERROR = "every expectation an error, exit 1"
    PART = "the expectations that it touches are errors, exit 1"
    FAILED = "judged and failed, exit 1"
    LEFT_OUT = "checkpoint left out and named, the rest judged"
    NOTHING = "nothing was checked, exit 5"
    COLLECTED = "collected only: nothing measured, nothing judged, exit 0"
    SAME = "harmless: the good run's verdicts and figures, bit for bit"
    OTHER = "a legitimate other run: judged on finite figures"


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        id: family/what was done.
        seed: the good run that it starts from, a name of `seeds.SEEDS`.
        spoil: does the damage.
        outcome: what must come of it.
        says: texts that the output must hold: the file, checkpoint, weight or line, and what is wrong there.
        arguments: of pytest, beside the run.
        run: what ``--geom-run`` names.
        moving: `spoil` is done after the run was surveyed, and before it is read.
    """

    id: str
    seed: str
    spoil: Callable[[Project], object]
    outcome: Outcome
    says: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    run: str = "opd"
    moving: bool = False

    @property
    def family(self) -> str:
        """What was spoiled: the first part of the id."""
        return self.id.partition("/")[0]


@dataclass(frozen=True)
class Kit:
    """Makes the cases of one family from one seed."""

    family: str
    seed: str

    def __call__(
        self,
        what: str,
        spoil: Callable[[Project], object],
        outcome: Outcome,
        *says: str,
        arguments: tuple[str, ...] = (),
        run: str = "opd",
        moving: bool = False,
    ) -> Case:
        """The case `what`."""
        return Case(f"{self.family}/{what}", self.seed, spoil, outcome, says, arguments, run, moving)


def nothing(project: Project) -> None:
    """No damage at all: the arguments are the mistake."""


Bytes = Callable[[bytes], bytes]


def edited(file: Callable[[Project], Path], edit: Bytes) -> Callable[[Project], object]:
    """Replace the content of a file by what `edit` makes of it."""

    def spoil(project: Project) -> object:
        path = file(project)
        return path.write_bytes(edit(path.read_bytes()))

    return spoil
