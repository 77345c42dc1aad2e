"""What can go wrong, by whose mistake it is. Messages say where, what was found, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass


class GeomcheckError(Exception):
    """Base of every error that geomcheck raises on purpose."""


class UsageError(GeomcheckError):
    """The command asks for something that is not there: no such run, no checkpoints, no base, no suite."""


class NoCheckpoint(UsageError):
    """There is no run, or no complete checkpoint in it: none yet, for whoever waits for one."""


class RunError(GeomcheckError):
    """The files of a run cannot be read, or cannot be trusted to be what they say."""


class RecordError(GeomcheckError):
    """A record file is not one, or cannot answer what is asked of it."""


class NoBaseline(GeomcheckError):
    """There is no baseline to compare with yet."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no baseline at {path} yet; bless a good run with: geomcheck measure RUN -o {path}")


class Undefined(GeomcheckError):
    """A diagnostic has no value for this matrix: an empty mask, a rank below k, tied singular values.

    The message is the reason; whoever measures adds the checkpoint and the weight.
    """


@dataclass(frozen=True, order=True)
class Position:
    """A place in a suite file; line and column count from 1."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a suite, and where."""

    position: Position
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"


class SuiteError(GeomcheckError):
    """A suite file is invalid. Carries every problem found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.position)
        super().__init__("\n".join(str(problem) for problem in self.problems))
