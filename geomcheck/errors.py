"""The errors that geomcheck raises. Messages say where, what was found, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from geomcheck.urls import named

MAX_MESSAGE = 3000
"""Longest message in characters: names in files may be long, and must not flood a log."""


class GeomcheckError(Exception):
    """Base of every error that geomcheck raises on purpose. A message that is too long loses its middle; it names URLs,
    and no directory that stands for one."""

    def __init__(self, message: str) -> None:
        super().__init__(bounded(named(message)))


class UsageError(GeomcheckError):
    """The user asked for something that does not exist or cannot be done: no such run, W0, suite or option."""


class NoCheckpoint(UsageError):
    """There is no run, or no complete checkpoint in it yet; a caller may wait for one."""


class RunError(GeomcheckError):
    """The files of a run cannot be read, or cannot be trusted to be what they say."""


class RecordError(GeomcheckError):
    """A file is no record, or a record does not hold the figures that are needed."""


class NoBaseline(GeomcheckError):
    """There is no baseline to compare with yet."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no baseline at {path} yet; bless a good run with: geomcheck measure RUN -o {path}")


class Undefined(GeomcheckError):
    """A diagnostic has no value for this matrix: an empty mask, a rank below k, tied singular values.

    The message is the reason; the caller adds the checkpoint and the weight.
    """


def bounded(message: str) -> str:
    """`message` in at most about `MAX_MESSAGE` characters, from its start and its end."""
    if len(message) <= MAX_MESSAGE:
        return message
    kept = MAX_MESSAGE // 2
    return f"{message[:kept]} ... [{len(message) - 2 * kept} characters] ... {message[-kept:]}"


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


PROBLEMS_TOLD = 50


class SuiteError(GeomcheckError):
    """A suite file is invalid. Carries every problem found, in file order; its message the first `PROBLEMS_TOLD`."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.position)
        told = [bounded(str(problem)) for problem in self.problems[:PROBLEMS_TOLD]]
        more = [f"and {len(problems) - PROBLEMS_TOLD} more problems"] if len(problems) > PROBLEMS_TOLD else []
        Exception.__init__(self, "\n".join([*told, *more]))
