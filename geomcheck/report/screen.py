"""What a text is written for: how wide it may be, which characters it may hold, how much it should say."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomcheck.report.sparkline import BLOCKS, levels_for

if TYPE_CHECKING:
    import pytest

NARROWEST = 60
LOG_WIDTH = 120
"""Columns of a log, which scrolls: names are worth more there than a tidy edge."""

ELLIPSIS = "..."


@dataclass(frozen=True)
class Screen:
    """Where the verdicts of a session are read.

    Attributes:
        width: columns.
        levels: characters of sparklines, from low to high.
        verbosity: pytest's: below 0 for ``-q``, 1 for ``-v``, 2 for ``-vv``.
        colour: whether colours are shown.
        terminal: whether it is a terminal; a log otherwise.
    """

    width: int = LOG_WIDTH
    levels: str = BLOCKS
    verbosity: int = 0
    colour: bool = False
    terminal: bool = False

    @classmethod
    def of(cls, config: pytest.Config) -> Screen:
        """The screen of a session, once its terminal reporter is there."""
        verbosity = int(config.option.verbose)
        levels = levels_for(getattr(sys.__stdout__, "encoding", None))
        reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
        if reporter is None:
            return cls(levels=levels, verbosity=verbosity)
        writer = config.get_terminal_writer()
        width = max(NARROWEST, writer.fullwidth) if bool(reporter.isatty) else LOG_WIDTH
        return cls(width, levels, verbosity, bool(writer.hasmarkup), bool(reporter.isatty))

    def wrapped(self, text: str, *, indent: int = 0, hang: int = 0) -> list[str]:
        """`text` in lines that fit beside a margin of `indent`; all but the first begin with `hang` blanks.

        Lines break at blanks only: never inside a figure, a name or a path.
        """
        width = self.width - indent
        return [
            line
            for part in text.splitlines()
            for line in textwrap.wrap(
                part, width, subsequent_indent=" " * hang, break_long_words=False, break_on_hyphens=False
            )
        ]

    def sentence(self, text: str, *, hang: int = 0) -> list[str]:
        """`text` wrapped on a terminal; as it is in a log, where lines are searched for."""
        return self.wrapped(text, hang=hang) if self.terminal else text.splitlines()


def elide(name: str, width: int) -> str:
    """`name` in at most `width` characters: what is too much goes from its middle, as names differ at their ends."""
    if len(name) <= width:
        return name
    kept = max(0, width - len(ELLIPSIS))
    tail = (kept + 1) // 2
    return name[: kept - tail] + ELLIPSIS + name[len(name) - tail :]
