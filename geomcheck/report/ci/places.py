"""Where in a checkout what is told lies, as the pages of a pull request need it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_PROBLEM = re.compile(r"(?P<path>.+?):(?P<line>\d+):\d+: (?P<message>.+)")


class Mistake(NamedTuple):
    """A mistake in a suite, and the line that it is on."""

    path: str
    line: int
    message: str


def mistakes(errors: Sequence[str]) -> Iterator[Mistake]:
    """The mistakes in suites among the errors of a collection; others are not ours to place."""
    for error in errors:
        for found in filter(None, map(_PROBLEM.fullmatch, error.splitlines())):
            yield Mistake(found["path"], int(found["line"]), found["message"])


def in_checkout(path: str, variable: str) -> str | None:
    """`path` relative to the checkout, which the environment's `variable` names; None for a file outside, such as a
    shipped suite."""
    checkout = Path(os.environ.get(variable) or ".").resolve()
    absolute = Path(path).resolve()
    return absolute.relative_to(checkout).as_posix() if absolute.is_relative_to(checkout) else None
