"""A failure as pytest shows it: whole under FAILURES, in one line in the short summary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomcheck.report.text.screen import Screen
from geomcheck.report.text.verdicts import failure
from geomcheck.suite.verdict import Facts

if TYPE_CHECKING:
    import pytest
    from _pytest._io import TerminalWriter  # pytest does not export its name

_VIOLATION = re.compile(r"((?<=\s)[-+.\de]+%?!)")


@dataclass(frozen=True)
class Crash:
    """What pytest reads of a failure where a traceback would end: a place, here in the suite, and what is wrong."""

    path: str
    lineno: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.lineno}: {self.message}"


class Explanation:
    """The text of a failure, with the attributes that pytest reads of a traceback.

    A plain string would do on a terminal; on a CI system, and with ``-vv``, the short summary would repeat all of it.

    Args:
        facts: of the verdict, as `Verdict.to_dict` gives them.
        screen: where it is read.
    """

    def __init__(self, facts: Facts, screen: Screen) -> None:
        self._facts, self._screen = facts, screen
        self.reprcrash = Crash(facts["position"]["path"], facts["position"]["line"], str(self).splitlines()[0])

    def __str__(self) -> str:
        return failure(self._facts)

    def toterminal(self, out: TerminalWriter) -> None:
        """Write it to a terminal: the sentence in bold, violations in red."""
        message, *lines = failure(self._facts, self._screen).splitlines()
        for line in self._screen.sentence(message):
            out.line(line, bold=True)
        for line in lines:
            for index, part in enumerate(_VIOLATION.split(line)):
                out.write(part, red=index % 2 == 1)
            out.line()


def explain(report: pytest.TestReport, facts: Facts, screen: Screen) -> None:
    """Let a failed report of an expectation show its verdict as an `Explanation`."""
    if report.failed:
        report.longrepr = Explanation(facts, screen)  # type: ignore[assignment]
